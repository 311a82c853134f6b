package pipeline

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/human"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/report"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// The page shows the exampleHits nearest neighbors of exampleQueries objects,
// with exampleText characters of each.
const (
	exampleQueries = 6
	exampleHits    = 5
	exampleText    = 160
)

// examples are some objects of a split with their nearest neighbors.
type examples struct {
	captions captions
	rng      *rand.Rand
	queries  []int32
	found    []report.Example
}

// showExamples has an evaluation find examples.
func (p *Pipeline[Row]) showExamples(ctx context.Context, e *evaluation) error {
	r, err := p.reader(ctx, e.report.Split)
	if err != nil {
		return err
	}
	encoders, err := p.encoders(ctx)
	if err != nil {
		return err
	}
	e.examples = &examples{
		captions: newCaptions(r, encoders),
		rng:      rand.New(rand.NewPCG(p.cfg.Seed, exampleQueries)),
	}
	return nil
}

// before chooses the objects, among those that have a match.
func (x *examples) before(ctx context.Context, o *train.Objects) error {
	var relevant []int32
	for _, i := range x.rng.Perm(o.Relevance.Len()) {
		if relevant = o.Relevance.Append(relevant[:0], i); len(relevant) > 0 {
			x.queries = append(x.queries, int32(i))
			x.found = append(x.found, report.Example{Text: x.captions.of(o.Places[i])})
		}
		if len(x.queries) == exampleQueries {
			break
		}
	}
	return x.search(ctx, o, func(e *report.Example) *[]report.Hit { return &e.Before })
}

// again are the examples with what was found before, for another training.
func (x *examples) again() *examples {
	if x == nil {
		return nil
	}
	to := *x
	to.found = slices.Clone(x.found)
	return &to
}

func (x *examples) after(ctx context.Context, o *train.Objects) error {
	return x.search(ctx, o, func(e *report.Example) *[]report.Hit { return &e.After })
}

func (x *examples) search(ctx context.Context, o *train.Objects, hits func(*report.Example) *[]report.Hit) error {
	if len(x.queries) == 0 {
		return nil
	}
	all, err := nn.View(o.Embeddings)
	if err != nil {
		return err
	}
	queries := nn.Mat{Rows: len(x.queries), Cols: all.Cols}
	for _, q := range x.queries {
		queries.Data = append(queries.Data, all.Row(int(q))...)
	}
	found, err := metric.Search(ctx, nn.Wrap(queries), o.Embeddings, exampleHits+1) // and itself
	if err != nil {
		return err
	}
	for k, q := range x.queries {
		relevant := o.Relevance.Append(nil, int(q))
		to := hits(&x.found[k])
		for _, n := range found[k] {
			if n.Index != q && len(*to) < exampleHits {
				*to = append(*to, report.Hit{
					Text: x.captions.of(o.Places[n.Index]), Similarity: float64(n.Similarity),
					Relevant: slices.Contains(relevant, n.Index),
				})
			}
		}
	}
	return nil
}

// captions say in words what the objects of a split are: the kept text that
// the object was made of, else its key, else what is kept of its row.
type captions struct {
	split    *cachesink.Split
	rows     arrow.Record // borrowed
	encoders []encoder
	kept     []string // columns
}

func newCaptions(r *cachesink.SplitReader, encoders []encoder) captions {
	c := captions{split: r.Split(), rows: r.Columns(), encoders: encoders}
	var names []string
	for _, e := range encoders {
		names = append(names, e.name)
	}
	for _, f := range c.rows.Schema().Fields() {
		if !cachesink.ReservedColumn(f.Name, names) {
			c.kept = append(c.kept, f.Name)
		}
	}
	return c
}

// of describes an object that is first met there.
func (c captions) of(at train.Place) string {
	row := int(at.Row)
	text := c.text(row, c.split.Kind.Sides()[at.Side])
	if label := columnOf(c.rows, cachesink.ColumnLabel); label != nil {
		text += " · " + label.ValueStr(row)
	}
	return human.Line(strings.Join(strings.Fields(text), " "), exampleText)
}

func (c captions) text(row int, side string) string {
	kept := c.keptTexts(row)
	for _, e := range c.encoders {
		if text, _, ok := c.origin(e, row, side, kept); ok {
			return text
		}
	}
	for _, e := range c.encoders {
		keys, ok := c.column(e, side, cachesink.RoleKey).(*array.String)
		if ok && keys.Value(row) != c.id(e, row, side).String() {
			return keys.Value(row)
		}
	}
	parts := []string{fmt.Sprintf("row %d", row)}
	if side != "" {
		parts[0] += ", side " + side
	}
	for _, name := range c.kept {
		if col := columnOf(c.rows, name); !col.IsNull(row) && !c.otherSide(name, row, side, kept) {
			parts = append(parts, name+": "+col.ValueStr(row))
		}
	}
	return strings.Join(parts, " · ")
}

// otherSide says that a kept column is the text of a pair's other object.
func (c captions) otherSide(column string, row int, side string, kept map[string]encode.Value) bool {
	for _, other := range c.split.Kind.Sides() {
		if other == side {
			continue
		}
		for _, e := range c.encoders {
			if _, name, ok := c.origin(e, row, other, kept); ok && name == column {
				return true
			}
		}
	}
	return false
}

func (c captions) column(e encoder, side, role string) arrow.Array {
	return columnOf(c.rows, cachesink.EncoderColumn(e.name, side, role))
}

func (c captions) id(e encoder, row int, side string) (id encode.ID) {
	if ids, ok := c.column(e, side, cachesink.RoleID).(*array.FixedSizeBinary); ok {
		id = encode.ID(ids.Value(row))
	}
	return id
}

// keptTexts are the texts that are kept of a row, by column.
func (c captions) keptTexts(row int) map[string]encode.Value {
	texts := map[string]encode.Value{}
	for _, name := range c.kept {
		if a, ok := columnOf(c.rows, name).(*array.String); ok && !a.IsNull(row) {
			texts[name] = encode.TextValue(a.Value(row))
		}
	}
	return texts
}

// origin looks for what an object was made of: kept columns under the names of
// fields, or one as the field that is read by default. They are the ones that
// make an object of its id. column is empty where there are several.
func (c captions) origin(e encoder, row int, side string, kept map[string]encode.Value) (text, column string, ok bool) {
	id := c.id(e, row, side)
	is := func(o encode.Object) (encode.Input, bool) {
		in, err := e.reads.Input(o)
		return in, err == nil && encode.Identify(encode.AppendInput(nil, in)) == id
	}
	all := encode.Record(kept)
	in, ok := is(all)
	for _, name := range c.kept {
		v, has := kept[name]
		if !has {
			continue
		}
		if ok && v.Text() == in.Text() {
			return v.Text(), name, true
		}
		if _, alone := is(all.With(encode.DefaultField, v)); alone && !ok {
			return v.Text(), name, true
		}
	}
	if ok {
		return in.Text(), "", true
	}
	return "", "", false
}
