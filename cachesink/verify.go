package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// Finding is one file of the cache that is not as it was written.
type Finding struct {
	File string // its name in the cache
	Err  error  // wraps ErrCorrupt for damage, else why it could not be read
}

// Verify reads every byte of every file that the manifest names and yields,
// for each file, what is wrong with it or nil, and its size: checksums,
// structure, numbers of rows, object ids that do not hash to their shard's
// id, and positions outside their shards. It repairs nothing, and goes on
// after a finding. Where another process has removed files since the cache
// was opened, it goes on with what the newest manifest names. It ends early,
// without a finding, when ctx does.
func (c *Cache) Verify(ctx context.Context) iter.Seq2[*Finding, int64] {
	if s, ok := c.st.(store.Copier); ok {
		c = &Cache{st: s.Original(), mem: c.mem, manifest: c.manifest}
	}
	return func(yield func(*Finding, int64) bool) {
		mem := &recycler{Allocator: c.mem}
		defer mem.close()
		done := map[File]bool{}
		for at := c; at != nil; {
			at = at.verify(ctx, mem, done, yield)
		}
	}
}

// verify checks the files that are not done. It returns the cache at a newer
// manifest where a file is gone that this one does not name, else nil.
func (c *Cache) verify(ctx context.Context, mem memory.Allocator, done map[File]bool, yield func(*Finding, int64) bool) *Cache {
	for f, check := range c.checks(ctx, mem) {
		if done[f] {
			continue
		}
		err := check()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			if now, moved, e := c.newest(ctx); e == nil && moved {
				return now
			}
		}
		done[f] = true
		if !yield(finding(f, err), f.Bytes) {
			return nil
		}
	}
	return nil
}

// checks yields each file with what finds out whether it is as it was written.
func (c *Cache) checks(ctx context.Context, mem memory.Allocator) iter.Seq2[File, func() error] {
	return func(yield func(File, func() error) bool) {
		rows := map[string]int64{} // of encoders, by folder
		for _, e := range c.manifest.Encoders {
			rows[e.Folder] = e.Rows()
			for _, s := range e.Shards {
				if !yield(s.File, func() error { return c.verifyShard(ctx, mem, &e, s) }) {
					return
				}
			}
		}
		for _, s := range c.manifest.Splits {
			for _, f := range s.Files {
				if !yield(f, func() error { return c.verifySplitFile(ctx, mem, &s, rows, f) }) {
					return
				}
			}
			for _, f := range s.Inputs {
				all := func(arrow.Record) error { return nil }
				if !yield(f, func() error { return readPlain(ctx, c.st, mem, f, all) }) {
					return
				}
			}
		}
	}
}

func finding(f File, err error) *Finding {
	if err == nil {
		return nil
	}
	return &Finding{File: f.Name, Err: err}
}

func (c *Cache) verifyShard(ctx context.Context, mem memory.Allocator, e *Encoder, s Shard) error {
	l, err := s.layout()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, s.Name, err)
	}
	ids := make([]byte, 0, max(0, min(s.Rows*idBytes, s.Bytes))) // ids are not compressible
	batchSize := 0
	err = readShard(ctx, c.st, mem, e, s.File, func(rec arrow.Record) error {
		got, err := idColumn(rec)
		if err != nil {
			return errors.Join(ErrCorrupt, err)
		}
		ids = append(ids, got...)
		vecs, err := storedColumns(rec, e.DType, e.Dim)
		if err == nil {
			err = vecs.check()
		}
		if err != nil {
			return errors.Join(ErrCorrupt, err)
		}
		md := rec.Schema().Metadata()
		batchSize, err = strconv.Atoi(metaValue(md, MetaBatchSize))
		if fp := metaValue(md, MetaFingerprint); err != nil || fp != e.Fingerprint {
			return corrupt(s.Name, "its schema says encoder %.12s, batch size %q", fp, metaValue(md, MetaBatchSize))
		}
		if d, storage := metaValue(md, MetaDType), metaValue(md, MetaStorage); d != string(e.DType) || storage != s.Storage {
			return corrupt(s.Name, "its schema says dtype %q, storage %q", d, storage)
		}
		return nil
	})
	if err == nil && shardID(e.Fingerprint, l, batchSize, ids) != s.ID {
		err = corrupt(s.Name, "its objects are not those of shard %.12s", s.ID)
	}
	return err
}

func (c *Cache) verifySplitFile(ctx context.Context, mem memory.Allocator, s *Split, rows map[string]int64, f File) error {
	return readPlain(ctx, c.st, mem, f, func(rec arrow.Record) error {
		for _, e := range s.Encoders {
			if e.Folder == "" {
				continue
			}
			limit := rows[e.Folder]
			for _, side := range s.Kind.Sides() {
				pos, err := column[*array.Int64](rec, EncoderColumn(e.Name, side, RolePos))
				if err != nil {
					return errors.Join(ErrCorrupt, err)
				}
				for i, p := range pos.Int64Values() {
					if p < 0 || p >= limit {
						return fmt.Errorf("%w: row %d names embedding %d of %d", ErrCorrupt, i, p, limit)
					}
				}
			}
		}
		return nil
	})
}
