package cachesink

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
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
// after a finding. It ends early, without a finding, when ctx does.
func (c *Cache) Verify(ctx context.Context) iter.Seq2[*Finding, int64] {
	return func(yield func(*Finding, int64) bool) {
		mem := &recycler{Allocator: c.mem}
		defer mem.close()
		for _, e := range c.manifest.Encoders {
			for _, s := range e.Shards {
				err := c.verifyShard(ctx, mem, &e, s)
				if ctx.Err() != nil || !yield(finding(s.File, err), s.Bytes) {
					return
				}
			}
		}
		rows := map[string]int64{} // of encoders, by folder
		for _, e := range c.manifest.Encoders {
			rows[e.Folder] = e.Rows()
		}
		for _, s := range c.manifest.Splits {
			for _, f := range s.Files {
				err := c.verifySplitFile(ctx, mem, &s, rows, f)
				if ctx.Err() != nil || !yield(finding(f, err), f.Bytes) {
					return
				}
			}
			for _, f := range s.Inputs {
				err := readPlain(ctx, c.st, mem, f, func(arrow.Record) error { return nil })
				if ctx.Err() != nil || !yield(finding(f, err), f.Bytes) {
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
