package cachesink

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// Finding is one file of the cache that is not as it was written.
type Finding struct {
	File string // its name in the cache
	Err  error  // wraps ErrCorrupt for damage, else why it could not be read
}

// Verify reads every byte of every file that the manifest names and yields
// what is wrong: checksums, structure, numbers of rows, object ids that do not
// hash to their shard's id, and positions outside their shards. It repairs
// nothing, and goes on after a finding. The second value is the number of
// bytes read since the last turn.
func (c *Cache) Verify(ctx context.Context) iter.Seq2[*Finding, int64] {
	return func(yield func(*Finding, int64) bool) {
		for _, e := range c.manifest.Encoders {
			for _, s := range e.Shards {
				err := c.verifyShard(ctx, &e, s)
				if !yield(finding(s.File, err), s.Bytes) || ctx.Err() != nil {
					return
				}
			}
		}
		for _, s := range c.manifest.Splits {
			for _, f := range s.Files {
				err := c.verifySplitFile(ctx, &s, f)
				if !yield(finding(f, err), f.Bytes) || ctx.Err() != nil {
					return
				}
			}
			for _, f := range s.Inputs {
				err := readFile(ctx, c.st, c.mem, f, func(arrow.Record) error { return nil })
				if !yield(finding(f, err), f.Bytes) || ctx.Err() != nil {
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

func (c *Cache) verifyShard(ctx context.Context, e *Encoder, s Shard) error {
	return readFile(ctx, c.st, c.mem, s.File, func(rec arrow.Record) error {
		if _, err := column[*array.FixedSizeBinary](rec, ColumnID); err != nil {
			return errors.Join(ErrCorrupt, err)
		}
		list, err := column[*array.FixedSizeList](rec, ColumnEmbedding)
		if err == nil {
			_, err = vectors(list, e.Dim)
		}
		if err != nil {
			return errors.Join(ErrCorrupt, err)
		}
		if md := rec.Schema().Metadata(); metaValue(md, MetaFingerprint) != e.Fingerprint {
			return corrupt(s.Name, "it is of the encoder %.12s, not %.12s", metaValue(md, MetaFingerprint), e.Fingerprint)
		}
		return nil
	})
}

func (c *Cache) verifySplitFile(ctx context.Context, s *Split, f File) error {
	return readFile(ctx, c.st, c.mem, f, func(rec arrow.Record) error {
		for _, e := range s.Encoders {
			if e.Folder == "" {
				continue
			}
			limit := c.manifest.Encoder(e.Folder).Rows()
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
