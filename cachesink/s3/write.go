package s3

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const (
	// putMeta is the metadata by which a put is known again.
	putMeta = "Permafrost-Put"
	// maxParts is how many parts an upload has at most; the protocol allows
	// 10,000.
	maxParts = 9000
	// uploads is how many parts of a file are under way at once.
	uploads = 4
)

// Sizes of uploads, in bytes. Tests lower them.
var (
	partBytes int64 = 16 << 20 // of a part, and of a file that is put at once
	// maxPut is the size of a file that is put at once where it must not
	// replace another: not all stores know conditions for uploads in parts.
	maxPut int64 = 256 << 20
)

// Create implements [store.Store]. The file lies in the local folder until it
// is published.
func (s *Store) Create(ctx context.Context) (store.Writer, error) {
	w, err := s.local.Create(ctx)
	if err != nil {
		return nil, err
	}
	return &writer{w, s}, nil
}

type writer struct {
	store.Writer // without a name, in the local folder
	s            *Store
}

// Publish uploads the file.
func (w *writer) Publish(ctx context.Context, name string, replace bool) error {
	if err := w.s.put(ctx, "publish", name, w.Writer, w.Size(), replace); err != nil {
		return err
	}
	_ = w.Abort() // the local file has done its work; Sweep takes what stays
	return nil
}

// put makes an object. Without replace it fails with fs.ErrExist if there is
// one, which may be one that it made in a try that got no answer.
func (s *Store) put(ctx context.Context, op, name string, body io.ReaderAt, size int64, replace bool) error {
	if err := store.Valid(op, name); err != nil {
		return err
	}
	if isLocal(name) {
		return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("%w: files named *%s have no objects", fs.ErrInvalid, partialSuffix)}
	}
	if !replace {
		if err := s.conditional(ctx); err != nil {
			return err
		}
	}
	if size <= partBytes || !replace && size <= maxPut {
		return s.putWhole(ctx, op, name, body, size, replace)
	}
	return s.putParts(ctx, op, name, body, size, replace)
}

// putOptions are those of a new put, with the word by which it is known.
func putOptions(replace bool) (minio.PutObjectOptions, string) {
	word := rand.Text()
	o := minio.PutObjectOptions{UserMetadata: map[string]string{putMeta: word}, DisableContentSha256: true}
	if !replace {
		o.SetMatchETagExcept("*")
	}
	return o, word
}

// made says whether the object is that of a put.
func (s *Store) made(ctx context.Context, name, word string) (bool, error) {
	o, err := s.head(ctx, "stat", name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && o.UserMetadata[putMeta] == word, err
}

func (s *Store) putWhole(ctx context.Context, op, name string, body io.ReaderAt, size int64, replace bool) error {
	sum, err := digest(body, 0, size)
	if err != nil {
		return err
	}
	opts, word := putOptions(replace)
	lost := false // the answer of a try
	err = s.c.do(ctx, s.request(op, name, size), func(ctx context.Context) error {
		_, err := s.c.PutObject(ctx, s.bucket, s.prefix+name, io.NewSectionReader(body, 0, size), size, "", sum, opts)
		lost = lost || err != nil && code(err) == "" || status(err) >= 500
		return err
	})
	if errors.Is(err, fs.ErrExist) && lost {
		return s.settle(ctx, name, word, err)
	}
	return err
}

// settle returns nil if the object is that of a put which err says failed.
func (s *Store) settle(ctx context.Context, name, word string, err error) error {
	ok, e := s.made(ctx, name, word)
	if e != nil {
		return fmt.Errorf("find out whether the put had its effect: %w", e)
	}
	if ok {
		return nil
	}
	return err
}

// digest returns the SHA-256 of a part of a file, by which the store notices
// damage on the way.
func digest(body io.ReaderAt, off, n int64) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(body, off, n)); err != nil {
		return "", fmt.Errorf("read the file to upload: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (s *Store) putParts(ctx context.Context, op, name string, body io.ReaderAt, size int64, replace bool) (err error) {
	if !replace {
		if _, err := s.head(ctx, op, name); err == nil {
			return &fs.PathError{Op: op, Path: s.request(op, name, 0).path, Err: fs.ErrExist}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	key := s.prefix + name
	opts, word := putOptions(true) // the condition is for the end
	var upload string
	err = s.c.do(ctx, s.request(op, name, 0), func(ctx context.Context) (err error) {
		upload, err = s.c.NewMultipartUpload(ctx, s.bucket, key, opts)
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.c.timeout/4)
			defer cancel()
			_ = s.c.AbortMultipartUpload(ctx, s.bucket, key, upload)
		}
	}()
	parts, err := s.uploadParts(ctx, op, name, upload, body, size)
	if err != nil {
		return err
	}
	end := minio.PutObjectOptions{}
	if !replace {
		end.SetMatchETagExcept("*")
	}
	lost := false
	err = s.c.do(ctx, s.request(op, name, 0), func(ctx context.Context) error {
		_, err := s.c.CompleteMultipartUpload(ctx, s.bucket, key, upload, parts, end)
		if status(err) == http.StatusNotImplemented && !replace {
			end = minio.PutObjectOptions{} // it was looked whether there is one
			_, err = s.c.CompleteMultipartUpload(ctx, s.bucket, key, upload, parts, end)
		}
		lost = lost || err != nil
		return err
	})
	if err != nil && lost && (errors.Is(err, fs.ErrExist) || code(err) == "NoSuchUpload") {
		return s.settle(ctx, name, word, err) // an earlier try may have ended it
	}
	return err
}

func (s *Store) uploadParts(ctx context.Context, op, name, upload string, body io.ReaderAt, size int64) ([]minio.CompletePart, error) {
	const mib = 1 << 20
	part := max(partBytes, (size/maxParts/mib+1)*mib)
	parts := make([]minio.CompletePart, (size+part-1)/part)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(uploads)
	for i := range parts {
		g.Go(func() error {
			off := int64(i) * part
			n := min(part, size-off)
			sum, err := digest(body, off, n)
			if err != nil {
				return err
			}
			return s.c.do(ctx, s.request(op, name, n), func(ctx context.Context) error {
				p, err := s.c.PutObjectPart(ctx, s.bucket, s.prefix+name, upload, i+1, io.NewSectionReader(body, off, n), n,
					minio.PutObjectPartOptions{Sha256Hex: sum, DisableContentSha256: true})
				parts[i] = minio.CompletePart{PartNumber: i + 1, ETag: p.ETag}
				return err
			})
		})
	}
	return parts, g.Wait()
}

// proof is whether the store was seen to keep the condition of puts.
type proof struct {
	sync.Mutex
	done bool
}

// conditional finds out, once, whether the store keeps the condition that an
// object must not be there: without it two commits could both succeed, and
// one be lost.
func (s *Store) conditional(ctx context.Context) error {
	s.proof.Lock()
	defer s.proof.Unlock()
	if s.proof.done {
		return nil
	}
	name := "tmp/probe-" + rand.Text()
	put := func() error { return s.putWhole(ctx, "put", name, emptyFile{}, 0, false) }
	if err := put(); err != nil {
		return fmt.Errorf("try a put under the condition that there is no object: %w", err)
	}
	err := put()
	once, cancel := context.WithTimeout(ctx, s.c.timeout/4)
	defer cancel()
	_ = s.c.RemoveObject(once, s.bucket, s.prefix+name, minio.RemoveObjectOptions{})
	switch {
	case errors.Is(err, fs.ErrExist):
		s.proof.done = true
		return nil
	case err != nil:
		return fmt.Errorf("try a put under the condition that there is no object: %w", err)
	}
	return fmt.Errorf("%s ignores If-None-Match: two fills at once could lose a commit; a store with conditional puts is needed", s.c.endpoint)
}

type emptyFile struct{}

func (emptyFile) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
