package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// Schema returns the Arrow schema of a file that the manifest names, with its
// metadata. It reads little more than the file's footer.
func (c *Cache) Schema(ctx context.Context, f File) (schema *arrow.Schema, err error) {
	r, err := openChecked(ctx, c.st, f)
	if errors.Is(err, fs.ErrNotExist) {
		if now, moved, e := c.newest(ctx); e == nil && moved && !slices.Contains(now.manifest.Files(), f.Name) {
			return nil, fmt.Errorf("%w: %s was removed from %s since it was opened", ErrMissing, f.Name, c.st)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s of %s: %w", f.Name, c.st, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	rd, err := openIPC(r, c.mem)
	if err != nil {
		return nil, fmt.Errorf("read the schema of %s of %s: %w", f.Name, c.st, err)
	}
	return rd.Schema(), rd.Close()
}

// Row is a row of a split, for people: without ids, positions and
// embeddings.
type Row struct {
	Row int64 `json:"row"` // its number in the split
	// Keys are the names of its objects, by column: E_key, or E_a_key and
	// E_b_key.
	Keys map[string]string `json:"keys"`
	// Columns are label, or score and subgroup, and the kept columns: int64,
	// float32, float64, string, bool, []byte or nil. A float that is not
	// finite is a string.
	Columns map[string]any `json:"columns"`
}

// splitColumns are the numbers of a split file's columns.
type splitColumns struct {
	plain []int // label, or score and subgroup, and kept columns
	keys  []int // in the order of the encoders and sides
	ids   []int // in the same order
}

// made are the columns of a split file that the cache makes.
func (s *Split) made() map[string]bool {
	made := map[string]bool{ColumnRow: true}
	for _, e := range s.Encoders {
		for _, side := range s.Kind.Sides() {
			for _, role := range []string{RoleKey, RoleID, RolePos} {
				made[EncoderColumn(e.Name, side, role)] = true
			}
		}
	}
	return made
}

// columns finds the columns of a split file, those of keys and ids for the
// encoders that are wanted.
func (s *Split) columns(schema *arrow.Schema, want func(encoder string) bool) (c splitColumns, err error) {
	made := s.made()
	for _, e := range s.Encoders {
		for _, side := range s.Kind.Sides() {
			if !want(e.Name) {
				continue
			}
			key, err := columnAt(schema, EncoderColumn(e.Name, side, RoleKey), arrow.BinaryTypes.String)
			if err != nil {
				return c, err
			}
			id, err := columnAt(schema, EncoderColumn(e.Name, side, RoleID), IDType)
			if err != nil {
				return c, err
			}
			c.keys, c.ids = append(c.keys, key), append(c.ids, id)
		}
	}
	for i, f := range schema.Fields() {
		if made[f.Name] {
			continue
		}
		if !storable(f.Type) {
			return c, fmt.Errorf("%w: column %q is %v", ErrCorrupt, f.Name, f.Type)
		}
		c.plain = append(c.plain, i)
	}
	return c, nil
}

func columnAt(schema *arrow.Schema, name string, want arrow.DataType) (int, error) {
	at := schema.FieldIndices(name)
	if len(at) != 1 || !arrow.TypeEqual(schema.Field(at[0]).Type, want) {
		return 0, fmt.Errorf("%w: no column %q of %v in (%s)", ErrCorrupt, name, want, columnNames(schema))
	}
	return at[0], nil
}

// every wants all encoders.
func every(string) bool { return true }

// eachBatch calls fn with the record batches of a split's own files, and the
// number of each one's first row.
func (c *Cache) eachBatch(ctx context.Context, s *Split, fn func(first int64, rec arrow.Record) error) error {
	return c.someBatches(ctx, s, func(int64, int64) bool { return true }, nil, fn)
}

// sieve says which record batches are worth to be seen whole.
type sieve struct {
	columns []string
	// keep is called with these columns of a record batch.
	keep func(rec arrow.Record) (bool, error)
}

// someBatches is eachBatch for the files with rows [from, to) that are
// wanted. Where files can be mapped, of what the sieve does not keep no more
// is touched than the sieve's columns; else it does nothing.
func (c *Cache) someBatches(ctx context.Context, s *Split, want func(from, to int64) bool, v *sieve, fn func(first int64, rec arrow.Record) error) error {
	var schema *arrow.Schema
	start := int64(0)
	for _, f := range s.Files {
		first := start
		if start += f.Rows; !want(first, start) {
			continue
		}
		err := c.eachOfFile(ctx, s, f, v, func(at int64, rec arrow.Record) error {
			if schema == nil {
				schema = rec.Schema()
			} else if !schema.Equal(rec.Schema()) {
				return corrupt(f.Name, "its columns differ from the first file's")
			}
			return fn(first+at, rec)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachOfFile is someBatches for one file, and the numbers of rows in it.
func (c *Cache) eachOfFile(ctx context.Context, s *Split, f File, v *sieve, fn func(at int64, rec arrow.Record) error) error {
	m, err := c.mapFile(ctx, f, &Tables{})
	if err != nil {
		return fmt.Errorf("map %s of %s: %w", f.Name, c.st, err)
	}
	if m != nil {
		defer m.release()
		t := &rowTable{nullable: s.nullable()}
		var batches []rowBatch
		if err = t.columns(m, c.mem); err == nil {
			batches, err = t.place(m, f)
		}
		if err == nil {
			return guarded([]*mappedFile{m}, func() error { return t.eachRecord(ctx, batches, v, fn) })
		}
		if errors.Is(err, ErrCorrupt) {
			return fmt.Errorf("map %s of %s: %w", f.Name, c.st, err)
		}
	}
	at := int64(0)
	return readPlain(ctx, c.st, c.mem, f, func(rec arrow.Record) error {
		err := fn(at, rec)
		at += rec.NumRows()
		return err
	})
}

// pick returns rows of a split, by number.
func (c *Cache) pick(ctx context.Context, s *Split, numbers []int64) (map[int64]*Row, error) {
	out := map[int64]*Row{}
	numbers = slices.Sorted(slices.Values(numbers))
	within := func(from, to int64) []int64 {
		i, _ := slices.BinarySearch(numbers, from)
		j, _ := slices.BinarySearch(numbers, to)
		return numbers[i:j]
	}
	err := c.someBatches(ctx, s, func(from, to int64) bool { return len(within(from, to)) > 0 }, nil, func(first int64, rec arrow.Record) error {
		for _, n := range within(first, first+rec.NumRows()) {
			cols, err := s.columns(rec.Schema(), every)
			if err != nil {
				return err
			}
			out[n] = cols.row(rec, n, int(n-first))
		}
		return nil
	})
	return out, err
}

// row copies a row out of a record batch.
func (c *splitColumns) row(rec arrow.Record, number int64, i int) *Row {
	r := &Row{Row: number, Keys: map[string]string{}, Columns: map[string]any{}}
	for _, k := range c.keys {
		r.Keys[rec.ColumnName(k)] = strings.Clone(rec.Column(k).ValueStr(i))
	}
	for _, p := range c.plain {
		r.Columns[rec.ColumnName(p)] = Value(rec.Column(p), i)
	}
	return r
}

// Value returns a value of a label, score, subgroup, key or kept column as
// [Row.Columns] has it: one that JSON can hold, a copy.
func Value(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Int64:
		return a.Value(i)
	case *array.Float32:
		if v := float64(a.Value(i)); math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Sprint(v)
		}
		return a.Value(i)
	case *array.Float64:
		if v := a.Value(i); math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Sprint(v)
		}
		return a.Value(i)
	case *array.Boolean:
		return a.Value(i)
	case *array.Binary:
		return slices.Clone(a.Value(i))
	default:
		return strings.Clone(a.ValueStr(i))
	}
}

// ValueText writes a value of [Row.Columns] for people.
func ValueText(v any) string {
	switch v := v.(type) {
	case nil:
		return "(null)"
	case string:
		return v
	case []byte:
		return fmt.Sprintf("%x", v)
	}
	return fmt.Sprint(v)
}
