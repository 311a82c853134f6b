package cachesink

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
)

// splitDiffer compares the rows of two splits.
type splitDiffer struct {
	*diffRun
	d        *SplitDiff
	c        [2]*Cache // a and b
	s        [2]*Split
	encoders []string // that both have
	plain    []string // columns that both have, sorted
	rows     rowSet
	order    [2]digest // over all rows
	keys     [2]digest
	// The rows to show, by number: of a, of b.
	changed, removed, added []rowPair
}

// rowPair is a row of a and one of b, -1 for none.
type rowPair [2]int64

// split compares two splits; either may be nil.
func (run *diffRun) split(ctx context.Context, sa, sb *Split) (*SplitDiff, error) {
	x := &splitDiffer{diffRun: run, d: &SplitDiff{Differs: []string{}}, c: [2]*Cache{run.a, run.b}, s: [2]*Split{sa, sb}}
	d := x.d
	defer x.rows.free()
	for _, r := range []*RowDiffs{&d.Changed, &d.Removed, &d.Added} {
		r.First = []RowDiff{}
	}
	d.A, d.B = run.a.manifest.versionOf(sa), run.b.manifest.versionOf(sb)
	if sa == nil || sb == nil {
		return d, nil
	}
	if err := x.compareSchemas(ctx); err != nil {
		return nil, err
	}
	if d.Compared = sa.Kind == sb.Kind && len(x.encoders) > 0; !d.Compared {
		return d, nil
	}
	for side := range x.c {
		if err := x.rowsOf(ctx, side); err != nil {
			return nil, err
		}
	}
	x.rows.compare(x)
	if d.Changed.Count+d.Removed.Count+d.Added.Count == 0 {
		d.Reordered = x.order[0] != x.order[1]
		d.Rekeyed = !d.Reordered && x.keys[0] != x.keys[1]
	}
	return d, x.show(ctx)
}

func (m *Manifest) versionOf(s *Split) *SplitVersion {
	if s == nil {
		return nil
	}
	v := &SplitVersion{Fingerprint: s.Fingerprint, Folder: s.Folder, Rows: s.Rows, Older: -1}
	for _, o := range m.Splits {
		if o.Name == s.Name {
			v.Older++
		}
	}
	return v
}

// compareSchemas finds what differs of the splits as a whole, and what of
// their rows can be compared.
func (x *splitDiffer) compareSchemas(ctx context.Context) error {
	var facts, columns [2]map[string]string
	for i, s := range x.s {
		facts[i] = s.facts(x.c[i].manifest)
		for _, e := range s.Encoders {
			if i == 1 && slices.ContainsFunc(x.s[0].Encoders, func(o SplitEncoder) bool { return o.Name == e.Name }) {
				x.encoders = append(x.encoders, e.Name)
			}
		}
		var err error
		if columns[i], err = x.c[i].columnTypes(ctx, s); err != nil {
			return err
		}
	}
	if columns[0] != nil && columns[1] != nil { // an empty split has none
		for i := range columns {
			for name, t := range columns[i] {
				facts[i]["column "+name] = t
				if i == 1 && columns[0][name] == t {
					x.plain = append(x.plain, name)
				}
			}
		}
	}
	slices.Sort(x.plain)
	x.d.Differs = append(x.d.Differs, DiffFields(facts[0], facts[1])...)
	return nil
}

// facts are the declared fields of a split, its columns left out.
func (s *Split) facts(m *Manifest) map[string]string {
	f := map[string]string{"kind": string(s.Kind)}
	for _, e := range s.Encoders {
		name := "encoder " + e.Name
		f[name+" reads"] = e.Input
		f[name+" fingerprint"] = fmt.Sprintf("%.12s", e.Fingerprint)
		f[name+" stored as"] = "not cached"
		if stored := m.Encoder(e.Folder); stored != nil {
			f[name+" stored as"] = string(stored.DType)
		}
	}
	return f
}

// columnTypes returns the types of a split's plain columns, nil for a split
// without rows.
func (c *Cache) columnTypes(ctx context.Context, s *Split) (map[string]string, error) {
	if len(s.Files) == 0 {
		return nil, nil
	}
	schema, err := c.Schema(ctx, s.Files[0])
	if err != nil {
		return nil, err
	}
	cols, err := s.columns(schema, every)
	if err != nil {
		return nil, err
	}
	types := map[string]string{}
	for _, i := range cols.plain {
		types[schema.Field(i).Name] = schema.Field(i).Type.String()
	}
	return types, nil
}

// rowsOf notes all rows of one side.
func (x *splitDiffer) rowsOf(ctx context.Context, side int) error {
	s := x.s[side]
	order, keys := sha256.New(), sha256.New()
	shared := func(encoder string) bool { return slices.Contains(x.encoders, encoder) }
	var buf []byte
	err := x.c[side].eachBatch(ctx, s, func(first int64, rec arrow.Record) error {
		cols, err := s.columns(rec.Schema(), shared)
		if err != nil {
			return err
		}
		var plain []int
		for _, name := range x.plain {
			plain = append(plain, rec.Schema().FieldIndices(name)...)
		}
		add := func(columns []int, row int) {
			for _, c := range columns {
				if buf, err = appendCell(buf, rec.Column(c), row); err != nil {
					return
				}
			}
		}
		for row := range int(rec.NumRows()) {
			buf = buf[:0]
			add(cols.keys, row)
			keys.Write(buf)
			buf = buf[:0]
			add(cols.ids, row)
			r := rowEntry{objects: digestOf(buf), at: uint64(first+int64(row)) | uint64(side)<<sideBit}
			add(plain, row)
			r.content = digestOf(buf)
			if err != nil {
				return err
			}
			order.Write(r.content[:])
			if err := x.rows.add(r); err != nil {
				return err
			}
		}
		return nil
	})
	x.read(bytesOf(s.Files))
	x.order[side], x.keys[side] = digest(order.Sum(nil)), digest(keys.Sum(nil))
	return err
}

// note counts a row that differs, and keeps it if it is one of the first.
func (x *splitDiffer) note(d *RowDiffs, first *[]rowPair, p rowPair) {
	d.Count++
	byNumber := func(p, q rowPair) int { return cmp.Or(cmp.Compare(p[0], q[0]), cmp.Compare(p[1], q[1])) }
	at, _ := slices.BinarySearchFunc(*first, p, byNumber)
	if at >= x.examples {
		return
	}
	*first = slices.Insert(*first, at, p)
	*first = (*first)[:min(len(*first), x.examples)]
}

// show reads the rows to show.
func (x *splitDiffer) show(ctx context.Context) error {
	var rows [2]map[int64]*Row
	for side := range x.c {
		var numbers []int64
		for _, p := range slices.Concat(x.changed, x.removed, x.added) {
			if p[side] >= 0 {
				numbers = append(numbers, p[side])
			}
		}
		var err error
		if rows[side], err = x.c[side].pick(ctx, x.s[side], numbers); err != nil {
			return err
		}
	}
	for _, p := range x.removed {
		x.d.Removed.First = append(x.d.Removed.First, RowDiff{A: rows[0][p[0]], Differs: []string{}})
	}
	for _, p := range x.added {
		x.d.Added.First = append(x.d.Added.First, RowDiff{B: rows[1][p[1]], Differs: []string{}})
	}
	for _, p := range x.changed {
		r := RowDiff{A: rows[0][p[0]], B: rows[1][p[1]]}
		var texts [2]map[string]string
		for side, row := range []*Row{r.A, r.B} {
			texts[side] = map[string]string{}
			for _, name := range x.plain {
				texts[side][name] = ValueText(row.Columns[name])
			}
		}
		r.Differs = append([]string{}, DiffFields(texts[0], texts[1])...)
		x.d.Changed.First = append(x.d.Changed.First, r)
	}
	return nil
}

// sideBit tells the rows of b from those of a in rowEntry.at. A split has
// fewer rows than 2 to that power, as the manifest's check has it.
const sideBit = 62

// compare counts what the sides have in common and what not.
func (s *rowSet) compare(x *splitDiffer) {
	for i := range s.parts {
		rows := s.parts[i].entries()
		slices.SortFunc(rows, func(a, b rowEntry) int {
			return cmp.Or(bytes.Compare(a.objects[:], b.objects[:]), bytes.Compare(a.content[:], b.content[:]), cmp.Compare(a.at, b.at))
		})
		for len(rows) > 0 {
			n := leading(rows, func(a, b *rowEntry) bool { return a.objects == b.objects })
			compareRows(x, rows[:n])
			rows = rows[n:]
		}
	}
}

// compareRows compares the rows that have the same objects.
func compareRows(x *splitDiffer, rows []rowEntry) {
	left := rows[:0] // those without an equal one on the other side
	for rest := rows; len(rest) > 0; {
		n := leading(rest, func(a, b *rowEntry) bool { return a.content == b.content })
		inA := leading(rest[:n], func(a, b *rowEntry) bool { return a.side() == b.side() })
		if rest[0].side() == 1 {
			inA = 0
		}
		same := min(inA, n-inA)
		x.d.Same += int64(same)
		left = append(left, rest[same:inA]...)
		left = append(left, rest[inA+same:n]...)
		rest = rest[n:]
	}
	slices.SortFunc(left, func(a, b rowEntry) int { return cmp.Compare(a.at, b.at) })
	inA, _ := slices.BinarySearchFunc(left, uint64(1)<<sideBit, func(r rowEntry, at uint64) int { return cmp.Compare(r.at, at) })
	a, b := left[:inA], left[inA:]
	both := min(len(a), len(b))
	for i := range both {
		x.note(&x.d.Changed, &x.changed, rowPair{a[i].row(), b[i].row()})
	}
	for _, r := range a[both:] {
		x.note(&x.d.Removed, &x.removed, rowPair{r.row(), -1})
	}
	for _, r := range b[both:] {
		x.note(&x.d.Added, &x.added, rowPair{-1, r.row()})
	}
}

// leading returns how many rows are like the first.
func leading(rows []rowEntry, like func(a, b *rowEntry) bool) int {
	n := 1
	for n < len(rows) && like(&rows[0], &rows[n]) {
		n++
	}
	return n
}
