package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/internal/human"
)

// splitRows are the first rows of a split.
type splitRows struct {
	Split  string     `json:"split"`
	Folder string     `json:"folder"`
	Rows   []splitRow `json:"rows"`

	columns, vectors []string // in the order of the file
}

// splitRow is one row: its columns without ids and positions, and the
// Euclidean norms of its embeddings.
type splitRow struct {
	Columns map[string]any     `json:"columns"`
	Norms   map[string]float64 `json:"norms"`
	texts   []string           // of both, for people
}

func readRows(ctx context.Context, c *cachesink.Cache, s *cachesink.Split, n int) (*splitRows, error) {
	out := &splitRows{Split: s.Name, Folder: s.Folder, Rows: []splitRow{}}
	rec, err := c.Head(ctx, s, n)
	if rec == nil || err != nil {
		return out, err
	}
	defer rec.Release()
	out.Rows = make([]splitRow, rec.NumRows())
	for i := range out.Rows {
		out.Rows[i] = splitRow{Columns: map[string]any{}, Norms: map[string]float64{}}
	}
	hidden := map[string]bool{}
	for _, e := range s.Encoders {
		for _, side := range s.Kind.Sides() {
			for _, role := range []string{cachesink.RoleID, cachesink.RolePos} {
				hidden[cachesink.EncoderColumn(e.Name, side, role)] = true
			}
		}
	}
	for i, f := range rec.Schema().Fields() {
		if hidden[f.Name] {
			continue
		}
		if err := out.add(f.Name, rec.Column(i)); err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
	}
	return out, nil
}

// add takes a column: as it is, or the norms of an embedding column.
func (s *splitRows) add(name string, col arrow.Array) error {
	if _, ok := col.(*array.FixedSizeList); !ok {
		s.columns = append(s.columns, name)
		for i := range s.Rows {
			s.Rows[i].Columns[name] = cachesink.Value(col, i)
			s.Rows[i].texts = append(s.Rows[i].texts, cut(col.ValueStr(i)))
		}
		return nil
	}
	vecs, dim, err := cachesink.Vectors(col)
	if err != nil {
		return err
	}
	s.vectors = append(s.vectors, fmt.Sprintf("|%s|", name))
	for i := range s.Rows {
		n := norm(vecs[i*dim : (i+1)*dim])
		s.Rows[i].Norms[name] = n
		s.Rows[i].texts = append(s.Rows[i].texts, strconv.FormatFloat(n, 'f', 4, 64))
	}
	return nil
}

// table is the rows for people. Embeddings come last in a split's batches.
func (s *splitRows) table() [][]string {
	rows := [][]string{append(append([]string(nil), s.columns...), s.vectors...)}
	for _, r := range s.Rows {
		rows = append(rows, r.texts)
	}
	return rows
}

// cut shortens a text to one line of a table's cell.
func cut(s string) string { return line(s, 40) }

func line(s string, most int) string { return human.Line(s, most) }
