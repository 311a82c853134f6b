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
	c, err := newCaptions(r, encoders)
	if err != nil {
		return err
	}
	e.examples = &examples{captions: c, rng: rand.New(rand.NewPCG(p.cfg.Seed, exampleQueries))}
	return nil
}

// before chooses the objects, among those that have a match.
func (x *examples) before(ctx context.Context, o *train.Objects) error {
	var relevant []int32
	for _, i := range x.rng.Perm(o.Relevance.Len()) {
		if relevant = o.Relevance.Append(relevant[:0], i); len(relevant) > 0 {
			text, err := x.captions.of(ctx, o.Places[i])
			if err != nil {
				return err
			}
			x.queries = append(x.queries, int32(i))
			x.found = append(x.found, report.Example{Text: text})
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
			if n.Index == q || len(*to) == exampleHits {
				continue
			}
			text, err := x.captions.of(ctx, o.Places[n.Index])
			if err != nil {
				return err
			}
			*to = append(*to, report.Hit{
				Text: text, Similarity: float64(n.Similarity), Relevant: slices.Contains(relevant, n.Index),
			})
		}
	}
	return nil
}

// captions say in words what the objects of a split are: the kept text that
// the object was made of, else its key, else what is kept of its row.
type captions struct {
	rows     *cachesink.SplitReader // of all columns but embeddings and inputs
	split    *cachesink.Split
	encoders []encoder
	kept     []string // columns
}

func newCaptions(r *cachesink.SplitReader, encoders []encoder) (captions, error) {
	c := captions{split: r.Split(), encoders: encoders}
	var names, large, read []string
	for _, e := range encoders {
		names = append(names, e.name)
		for _, side := range c.split.Kind.Sides() {
			large = append(large, cachesink.EncoderColumn(e.name, side, ""), cachesink.EncoderColumn(e.name, side, cachesink.RoleInput))
		}
	}
	for _, f := range r.Schema().Fields() {
		if slices.Contains(large, f.Name) {
			continue
		}
		read = append(read, f.Name)
		if !cachesink.ReservedColumn(f.Name, names) {
			c.kept = append(c.kept, f.Name)
		}
	}
	var err error
	c.rows, err = r.Select(read...)
	return c, err
}

// of describes an object that is first met there.
func (c captions) of(ctx context.Context, at train.Place) (string, error) {
	rec, err := c.rows.Gather(ctx, []int64{at.Row})
	if err != nil {
		return "", err
	}
	defer rec.Release()
	row := captionRow{c, rec, at.Row}
	text := row.text(c.split.Kind.Sides()[at.Side])
	if label := columnOf(rec, cachesink.ColumnLabel); label != nil {
		text += " · " + label.ValueStr(0)
	}
	return strings.Clone(human.Line(strings.Join(strings.Fields(text), " "), exampleText)), nil // the record batch ends here
}

// captionRow is one row of the captions' split.
type captionRow struct {
	captions
	rec    arrow.Record // of that row, borrowed
	number int64
}

func (c captionRow) text(side string) string {
	kept := c.keptTexts()
	for _, e := range c.encoders {
		if text, _, ok := c.origin(e, side, kept); ok {
			return text
		}
	}
	for _, e := range c.encoders {
		keys, ok := c.column(e, side, cachesink.RoleKey).(*array.String)
		if ok && keys.Value(0) != c.id(e, side).String() {
			return keys.Value(0)
		}
	}
	parts := []string{fmt.Sprintf("row %d", c.number)}
	if side != "" {
		parts[0] += ", side " + side
	}
	for _, name := range c.kept {
		if col := columnOf(c.rec, name); !col.IsNull(0) && !c.otherSide(name, side, kept) {
			parts = append(parts, name+": "+col.ValueStr(0))
		}
	}
	return strings.Join(parts, " · ")
}

// otherSide says that a kept column is the text of a pair's other object.
func (c captionRow) otherSide(column string, side string, kept map[string]encode.Value) bool {
	for _, other := range c.split.Kind.Sides() {
		if other == side {
			continue
		}
		for _, e := range c.encoders {
			if _, name, ok := c.origin(e, other, kept); ok && name == column {
				return true
			}
		}
	}
	return false
}

func (c captionRow) column(e encoder, side, role string) arrow.Array {
	return columnOf(c.rec, cachesink.EncoderColumn(e.name, side, role))
}

func (c captionRow) id(e encoder, side string) (id encode.ID) {
	if ids, ok := c.column(e, side, cachesink.RoleID).(*array.FixedSizeBinary); ok {
		id = encode.ID(ids.Value(0))
	}
	return id
}

// keptTexts are the texts that are kept of a row, by column.
func (c captionRow) keptTexts() map[string]encode.Value {
	texts := map[string]encode.Value{}
	for _, name := range c.kept {
		if a, ok := columnOf(c.rec, name).(*array.String); ok && !a.IsNull(0) {
			texts[name] = encode.TextValue(a.Value(0))
		}
	}
	return texts
}

// origin looks for what an object was made of: kept columns under the names of
// fields, or one as the field that is read by default. They are the ones that
// make an object of its id. column is empty where there are several.
func (c captionRow) origin(e encoder, side string, kept map[string]encode.Value) (text, column string, ok bool) {
	id := c.id(e, side)
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
