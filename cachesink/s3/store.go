package s3

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const (
	// partialSuffix ends the names of files that stay in the local folder.
	partialSuffix = ".partial"
	// pageKeys is how many names a request lists.
	pageKeys = 1000
	// uploadAge is how old an upload in parts must be before another process
	// may take it for one that a killed process left.
	uploadAge = 24 * time.Hour
)

// Store is a [store.Store] in a bucket, under a prefix.
type Store struct {
	c      *requester
	place  string // s3://bucket/prefix
	bucket string
	prefix string     // empty, or with a slash at its end
	local  *store.Dir // of files that have no object
	cache  *blockCache
	proof  proof
}

// Original implements [store.Copier].
func (s *Store) Original() store.Store {
	return &Store{c: s.c, place: s.place, bucket: s.bucket, prefix: s.prefix, local: s.local, cache: newBlockCache("", 0)}
}

func isLocal(name string) bool { return strings.HasSuffix(name, partialSuffix) }

// String implements [store.Store].
func (s *Store) String() string { return s.place }

// Free implements [store.Store].
func (s *Store) Free(context.Context) int64 { return -1 }

func (s *Store) request(op, name string, bytes int64) request {
	return request{op: op, path: "s3://" + s.bucket + "/" + s.prefix + name, bytes: bytes}
}

// Stat implements [store.Store].
func (s *Store) Stat(ctx context.Context, name string) (store.Info, error) {
	if isLocal(name) {
		return s.local.Stat(ctx, name)
	}
	o, err := s.head(ctx, "stat", name)
	return store.Info{Name: name, Size: o.Size, ModTime: o.LastModified}, err
}

func (s *Store) head(ctx context.Context, op, name string) (o minio.ObjectInfo, err error) {
	if err := store.Valid(op, name); err != nil {
		return o, err
	}
	err = s.c.do(ctx, s.request(op, name, 0), func(ctx context.Context) (err error) {
		o, err = s.c.StatObject(ctx, s.bucket, s.prefix+name, minio.StatObjectOptions{})
		return err
	})
	return o, err
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context, prefix string) ([]store.Info, error) {
	folder := strings.TrimSuffix(prefix, "/")
	if err := errors.Join(ctx.Err(), store.Valid("list", folder)); err != nil {
		return nil, err
	}
	out, err := s.local.List(ctx, folder)
	if err != nil {
		return nil, err
	}
	out = slices.DeleteFunc(out, func(i store.Info) bool { return !isLocal(i.Name) })
	for last := ""; ; {
		page, err := s.page(ctx, folder+"/", last)
		if err != nil {
			return nil, err
		}
		for _, o := range page {
			name := strings.TrimPrefix(o.Key, s.prefix)
			if store.Valid("list", name) == nil && !isLocal(name) { // else it is not the cache's
				out = append(out, store.Info{Name: name, Size: o.Size, ModTime: o.LastModified})
			}
		}
		if len(page) < pageKeys {
			break
		}
		last = page[len(page)-1].Key
	}
	slices.SortFunc(out, func(a, b store.Info) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// page lists the objects under a folder that come after a key.
func (s *Store) page(ctx context.Context, folder, after string) (page []minio.ObjectInfo, err error) {
	err = s.c.do(ctx, s.request("list", folder, 0), func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		page = page[:0]
		for o := range s.c.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{
			Prefix: s.prefix + folder, Recursive: true, StartAfter: after, MaxKeys: pageKeys, FetchOwner: new(bool),
		}) {
			if o.Err != nil {
				return o.Err
			}
			if page = append(page, o); len(page) == pageKeys {
				break
			}
		}
		return nil
	})
	return page, err
}

// Top implements [store.Store]. What is only in the local folder is not
// among it.
func (s *Store) Top(ctx context.Context) (out []string, err error) {
	err = s.c.do(ctx, s.request("list", "", 0), func(ctx context.Context) error {
		out = nil
		for o := range s.c.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix}) {
			if o.Err != nil {
				return o.Err
			}
			if name, _, _ := strings.Cut(strings.TrimPrefix(o.Key, s.prefix), "/"); name != "" {
				out = append(out, name)
			}
		}
		return nil
	})
	slices.Sort(out)
	return slices.Compact(out), err
}

// Remove implements [store.Store].
func (s *Store) Remove(ctx context.Context, name string) error {
	if isLocal(name) {
		return s.local.Remove(ctx, name)
	}
	if _, err := s.head(ctx, "remove", name); err != nil { // a removal does not tell
		return err
	}
	return s.c.do(ctx, s.request("remove", name, 0), func(ctx context.Context) error {
		return s.c.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{})
	})
}

// Scratch implements [store.Store].
func (s *Store) Scratch(ctx context.Context) (store.Scratch, error) { return s.local.Scratch(ctx) }

// Sweep implements [store.Sweeper]: also uploads in parts that were begun
// long ago and not ended, which a store keeps and counts.
func (s *Store) Sweep(ctx context.Context) error {
	if err := s.local.Sweep(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.c.timeout/4)
	defer cancel()
	for u := range s.c.ListIncompleteUploads(ctx, s.bucket, s.prefix, true) {
		if u.Err != nil {
			return nil // some stores list none, or not to all
		}
		if time.Since(u.Initiated) > uploadAge {
			_ = s.c.AbortMultipartUpload(ctx, s.bucket, u.Key, u.UploadID)
		}
	}
	return nil
}
