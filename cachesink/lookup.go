package cachesink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// LookupOptions are the options of [Cache.Lookup].
type LookupOptions struct {
	// Split is the only one to look in.
	// Default: of each name, the newest that has the encoder.
	Split *Split
	// Encoder is the only one whose keys are compared.
	// Default: all.
	Encoder string
	// Limit is the most matches that are returned; more are counted.
	// Default: 100.
	Limit int
}

// KeyMatch is an object that is called by the key that was looked up: one
// row, encoder and side.
type KeyMatch struct {
	Split   string `json:"split"`
	Folder  string `json:"folder"` // of the split
	Encoder string `json:"encoder"`
	Side    string `json:"side"` // "a" or "b", "" in group samples
	ID      string `json:"id"`   // of the object, in hex
	Row
	// DType is what the embedding is stored in, empty where the encoder is
	// not cached.
	DType DType `json:"dtype"`
	// Embedding is the stored embedding, in float32 whatever the dtype; nil
	// where the encoder is not cached. The caller owns it.
	Embedding []float32 `json:"-"`

	folder string // of the embedding
	pos    int64
}

// Lookup finds the objects that a key names: those whose value in a key
// column is the key, to the byte. It returns up to opts.Limit of them, by the
// name of the split, the number of the row, encoder and side, and how many
// there are. It looks through the keys of the split files, one record batch at a
// time, and of the shards touches the rows of what is returned; files that
// cannot be mapped are read. A split or encoder that is not
// there is ErrMissing; a key that is not there is no error.
func (c *Cache) Lookup(ctx context.Context, key string, opts LookupOptions) (found []KeyMatch, total int64, err error) {
	err = c.again(ctx, func(at *Cache) error {
		opts := opts
		if opts.Split != nil {
			s, err := c.splitAt(at, opts.Split)
			if err != nil {
				return err
			}
			opts.Split = at.manifest.Split(s.Name, s.Fingerprint)
		}
		var err error
		found, total, err = at.lookup(ctx, key, opts)
		return err
	})
	return found, total, err
}

func (c *Cache) lookup(ctx context.Context, key string, opts LookupOptions) ([]KeyMatch, int64, error) {
	opts.Limit = cmp.Or(opts.Limit, 100)
	splits, err := c.manifest.lookupSplits(opts)
	if err != nil {
		return nil, 0, err
	}
	want := func(encoder string) bool { return opts.Encoder == "" || opts.Encoder == encoder }
	var found []KeyMatch
	var total int64
	for _, s := range splits {
		err := c.someBatches(ctx, s, func(int64, int64) bool { return true }, s.named(key, want), func(first int64, rec arrow.Record) error {
			return s.match(rec, key, want, func(m *KeyMatch, row int) error {
				if total++; total > int64(opts.Limit) {
					return nil
				}
				all, err := s.columns(rec.Schema(), every)
				if err != nil {
					return err
				}
				m.Row = *all.row(rec, first+int64(row), row)
				found = append(found, *m)
				return nil
			})
		})
		if err != nil {
			return nil, 0, fmt.Errorf("look up a key in split %q: %w", s.Name, err)
		}
	}
	if err := c.embed(ctx, found); err != nil {
		return nil, 0, err
	}
	return found, total, nil
}

// lookupSplits returns the splits to look in.
func (m *Manifest) lookupSplits(opts LookupOptions) ([]*Split, error) {
	newest := map[string]*Split{}
	encoders := map[string]bool{}
	for i := range m.Splits {
		s := &m.Splits[i]
		if opts.Split != nil && opts.Split != s {
			continue
		}
		for _, e := range s.Encoders {
			if encoders[e.Name] = true; opts.Encoder == "" || opts.Encoder == e.Name {
				newest[s.Name] = s
			}
		}
	}
	if opts.Encoder != "" && !encoders[opts.Encoder] {
		return nil, fmt.Errorf("%w: encoder %q, there are %q", ErrMissing, opts.Encoder, slices.Sorted(maps.Keys(encoders)))
	}
	var out []*Split
	for _, name := range slices.Sorted(maps.Keys(newest)) {
		out = append(out, newest[name])
	}
	return out, nil
}

// named keeps the record batches in which a key column has a key.
func (s *Split) named(key string, want func(encoder string) bool) *sieve {
	v := &sieve{columns: []string{}}
	for _, e := range s.Encoders {
		for _, side := range s.Kind.Sides() {
			if want(e.Name) {
				v.columns = append(v.columns, EncoderColumn(e.Name, side, RoleKey))
			}
		}
	}
	v.keep = func(rec arrow.Record) (bool, error) {
		if len(rec.Columns()) != len(v.columns) {
			return true, nil // whoever looks closer tells what is wrong
		}
		for _, a := range rec.Columns() {
			keys, ok := a.(*array.String)
			if !ok {
				return true, nil
			}
			for i := range keys.Len() {
				if keys.Value(i) == key {
					return true, nil
				}
			}
		}
		return false, nil
	}
	return v
}

// match calls fn with the matches in a record batch, row by row.
func (s *Split) match(rec arrow.Record, key string, want func(encoder string) bool, fn func(m *KeyMatch, row int) error) error {
	cols, err := s.columns(rec.Schema(), want)
	if err != nil {
		return err
	}
	type use struct {
		encoder *SplitEncoder
		side    string
		keys    *array.String
		ids     *array.FixedSizeBinary
		pos     *array.Int64
	}
	var uses []use
	for i := range s.Encoders {
		e := &s.Encoders[i]
		if !want(e.Name) {
			continue
		}
		for _, side := range s.Kind.Sides() {
			n := len(uses)
			u := use{
				encoder: e, side: side,
				keys: rec.Column(cols.keys[n]).(*array.String), ids: rec.Column(cols.ids[n]).(*array.FixedSizeBinary),
			}
			if e.Folder != "" {
				if u.pos, err = column[*array.Int64](rec, EncoderColumn(e.Name, side, RolePos)); err != nil {
					return errors.Join(ErrCorrupt, err)
				}
			}
			uses = append(uses, u)
		}
	}
	for row := range int(rec.NumRows()) {
		for _, u := range uses {
			if u.keys.Value(row) != key {
				continue
			}
			m := &KeyMatch{
				Split: s.Name, Folder: s.Folder, Encoder: u.encoder.Name, Side: u.side,
				ID: fmt.Sprintf("%x", u.ids.Value(row)), folder: u.encoder.Folder,
			}
			if u.pos != nil {
				m.pos = u.pos.Value(row)
			}
			if err := fn(m, row); err != nil {
				return err
			}
		}
	}
	return nil
}

// embed reads the embeddings of matches.
func (c *Cache) embed(ctx context.Context, found []KeyMatch) error {
	byFolder := map[string][]*KeyMatch{}
	for i := range found {
		if m := &found[i]; m.folder != "" {
			byFolder[m.folder] = append(byFolder[m.folder], m)
		}
	}
	for _, folder := range slices.Sorted(maps.Keys(byFolder)) {
		e, ms := c.manifest.Encoder(folder), byFolder[folder]
		pos := make([]int64, len(ms))
		for i, m := range ms {
			pos[i] = m.pos
		}
		vecs, err := c.vectorsAt(ctx, e, pos, func(i int, id []byte) error {
			if m := ms[i]; fmt.Sprintf("%x", id) != m.ID {
				return fmt.Errorf("%w: embedding %d is of object %x, split %q has %s there", ErrCorrupt, m.pos, id, m.Split, m.ID)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i, m := range ms {
			m.DType, m.Embedding = e.DType, vecs[i*e.Dim:(i+1)*e.Dim:(i+1)*e.Dim]
		}
	}
	return nil
}
