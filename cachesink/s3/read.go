package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const (
	// blockBytes is how much is fetched at once of a data file, and kept.
	blockBytes = 4 << 20
	// wholeBytes is the size of the largest file that is read at once when
	// it is opened, unless it is a data file.
	wholeBytes = 8 << 20
	// fetches is how many blocks one read fetches at once.
	fetches = 4
)

// isData says that a file is one of those whose content follows from its name
// and which are read again and again.
func isData(name string) bool {
	folder, _, _ := strings.Cut(name, "/")
	return folder == "encoders" || folder == "splits" || folder == "inputs"
}

// Open implements [store.Store]. ctx is also that of the reads.
func (s *Store) Open(ctx context.Context, name string) (store.Reader, error) {
	if isLocal(name) {
		return s.local.Open(ctx, name)
	}
	if isData(name) {
		o, err := s.head(ctx, "open", name)
		if err != nil {
			return nil, err
		}
		return s.reader(ctx, name, o), nil
	}
	return s.openWhole(ctx, name)
}

func (s *Store) reader(ctx context.Context, name string, o minio.ObjectInfo) *reader {
	r := &reader{s: s, ctx: ctx, name: name, etag: o.ETag, size: o.Size}
	if isData(name) && o.ETag != "" {
		id := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s\x00%s\x00%d", s.c.endpoint, s.bucket, s.prefix, name, o.ETag, o.Size))
		r.id = hex.EncodeToString(id[:16])
	}
	return r
}

// openWhole reads a file when it is opened, so that its size and its bytes
// are those of one version.
func (s *Store) openWhole(ctx context.Context, name string) (store.Reader, error) {
	if err := store.Valid("open", name); err != nil {
		return nil, err
	}
	var r *reader
	err := s.c.do(ctx, s.request("open", name, 0), func(one context.Context) error {
		body, o, _, err := s.c.GetObject(one, s.bucket, s.prefix+name, minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		defer body.Close()
		r = s.reader(ctx, name, o)
		if o.Size > wholeBytes {
			return nil
		}
		data := make([]byte, o.Size)
		_, err = io.ReadFull(body, data)
		r.whole.Store(&data)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// reader reads one version of an object.
type reader struct {
	s     *Store
	ctx   context.Context // of Open: reads have none
	name  string
	etag  string
	size  int64
	id    string                 // of its blocks in the read cache, empty if they are not kept
	whole atomic.Pointer[[]byte] // its bytes, where they are here
}

func (r *reader) Size() int64 { return r.size }

func (r *reader) Close() error { return nil }

// ReadAt implements io.ReaderAt.
func (r *reader) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: r.name, Err: fs.ErrInvalid}
	}
	if off >= r.size {
		if len(b) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), r.size-off))
	if err := r.fill(b[:n], off); err != nil {
		return 0, err
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// fill reads all of b, block by block.
func (r *reader) fill(b []byte, off int64) error {
	if whole := r.whole.Load(); whole != nil {
		copy(b, (*whole)[off:])
		return nil
	}
	if off/blockBytes == (off+int64(len(b))-1)/blockBytes {
		return r.block(r.ctx, b, off)
	}
	g, ctx := errgroup.WithContext(r.ctx)
	g.SetLimit(fetches)
	for len(b) > 0 {
		part, at := b[:min(int64(len(b)), blockBytes-off%blockBytes)], off
		g.Go(func() error { return r.block(ctx, part, at) })
		b, off = b[len(part):], off+int64(len(part))
	}
	return g.Wait()
}

// block reads b, which lies in one block.
func (r *reader) block(ctx context.Context, b []byte, off int64) error {
	if r.id == "" || r.s.cache.limit == 0 {
		return r.fetch(ctx, b, off)
	}
	k := off / blockBytes
	start := k * blockBytes
	n := min(blockBytes, r.size-start)
	return r.s.cache.read(b, off-start, r.id, k, n, func(block []byte) error { return r.fetch(ctx, block, start) })
}

// fetch gets a range from the store.
func (r *reader) fetch(ctx context.Context, b []byte, off int64) error {
	q := r.s.request("read", r.name, int64(len(b)))
	q.path = fmt.Sprintf("%s (%d bytes at %d)", q.path, len(b), off)
	err := r.s.c.do(ctx, q, func(ctx context.Context) error {
		opts := minio.GetObjectOptions{}
		if err := opts.SetRange(off, off+int64(len(b))-1); err != nil {
			return err
		}
		if r.etag != "" {
			if err := opts.SetMatchETag(r.etag); err != nil {
				return err
			}
		}
		body, o, _, err := r.s.c.GetObject(ctx, r.s.bucket, r.s.prefix+r.name, opts)
		if err != nil {
			return err
		}
		defer body.Close()
		if o.Size != int64(len(b)) {
			return fmt.Errorf("the answer has %d bytes", o.Size)
		}
		_, err = io.ReadFull(body, b)
		return err
	})
	if errors.Is(err, fs.ErrExist) { // with another ETag
		return &fs.PathError{Op: "read", Path: q.path, Err: errors.New("the object was replaced while it was being read")}
	}
	return err
}

// Refresh implements [store.Refresher].
func (r *reader) Refresh(off, n int64) {
	r.whole.Store(nil)
	if r.id == "" {
		return
	}
	for k := off / blockBytes; k*blockBytes < off+n; k++ {
		r.s.cache.drop(r.id, k)
	}
}

// locks are one for each name in use.
type locks struct {
	mu    sync.Mutex
	names map[string]*lock
}

type lock struct {
	sync.Mutex
	users int
}

// lock waits for a name, and returns what gives it back.
func (l *locks) lock(name string) (unlock func()) {
	l.mu.Lock()
	if l.names == nil {
		l.names = map[string]*lock{}
	}
	one := l.names[name]
	if one == nil {
		one = &lock{}
		l.names[name] = one
	}
	one.users++
	l.mu.Unlock()
	one.Lock()
	return func() {
		one.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.names, name)
		}
	}
}
