package train

import (
	"context"
	"errors"
	"fmt"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Evaluate measures retrieval over all of data with a frozen head: over
// every row of groups, over every distinct object of pairs (as told by the
// batches' ids; without them every object of every row counts as distinct).
// A head of [head.Empty] measures the embeddings as they are. It holds the
// head's output of all objects in memory: 4·Out bytes each.
func Evaluate(ctx context.Context, data Data, f head.Frozen, metrics ...metric.Config) (*metric.Report, error) {
	o, err := Embed(ctx, data, f)
	if err != nil {
		return nil, err
	}
	return metric.Evaluate(ctx, o.Embeddings, o.Relevance, metrics...)
}

// Objects are the objects of a split as metrics see them.
type Objects struct {
	// Embeddings are the head's outputs, [n, Out].
	Embeddings *tensor.Dense
	// Relevance says which of them match.
	Relevance metric.Relevance
	// Places say where each object comes from.
	Places []Place
}

// Place is where an object is first met in a split: the number of a row, from
// 0, in the order of [Data.Scan], and its side, 0 or 1 for the second of a
// pair.
type Place struct {
	Row  int64
	Side int
}

// Embed passes the objects of data through a frozen head, as [Evaluate] does
// before it measures them.
func Embed(ctx context.Context, data Data, f head.Frozen) (*Objects, error) {
	c := &collector{head: f, pairs: data.Kind() == loss.Pairs, ids: map[int64]int32{}}
	if c.head.In() != data.Dim() {
		return nil, fmt.Errorf("the head takes %d values and the data have %d", f.In(), data.Dim())
	}
	sides := int64(1)
	if c.pairs {
		sides = 2
	}
	// An upper bound; memory that is never written stays unused.
	c.out = make([]float32, 0, data.Rows()*sides*int64(f.Out()))
	for b, err := range data.Scan(ctx) {
		if cause := ended(ctx, err); cause != nil {
			return nil, cause
		}
		if err == nil {
			err = c.add(b)
		}
		if err != nil {
			return nil, fmt.Errorf("batch %d: %w", c.batches, err)
		}
		c.batches++
	}
	if cause := ended(ctx, nil); cause != nil {
		return nil, cause
	}
	if c.objects == 0 {
		return nil, ErrNoData
	}
	rel := metric.ByLabel(c.labels)
	if c.pairs {
		var err error
		if rel, err = metric.ByPairs(c.objects, c.a, c.b, c.scores); err != nil {
			return nil, err
		}
	}
	return &Objects{nn.Wrap(nn.Mat{Rows: c.objects, Cols: f.Out(), Data: c.out}), rel, c.places}, nil
}

// collector gathers distinct objects, in order of first appearance: row by
// row, the first side before the second.
type collector struct {
	head    head.Frozen
	pairs   bool
	batches int
	rows    int64
	objects int
	out     []float32 // the head's output of every object
	places  []Place
	ids     map[int64]int32
	a, b    []int32   // objects of the pairs
	scores  []float32 // of the pairs, none where they have none
	labels  []int32   // of groups

	fresh   int       // objects of the batch that were not there before
	stage   nn.Mat    // their embeddings
	choices []string  // theirs, nil where there are none
	staged  nn.Buffer // stage's memory
	result  nn.Buffer
}

func (c *collector) add(b *Batch) error {
	if err := c.stageAll(b); err != nil {
		return err
	}
	c.rows += int64(b.Rows())
	return c.flush()
}

// stageAll stages the objects of a batch that are new.
func (c *collector) stageAll(b *Batch) error {
	x, err := nn.ViewCols(b.A, c.head.In())
	if err != nil {
		return err
	}
	c.fresh = 0
	if !c.pairs {
		if len(b.Labels) != x.Rows {
			return fmt.Errorf("a batch of %d rows has %d labels", x.Rows, len(b.Labels))
		}
		c.labels = append(c.labels, b.Labels...)
		c.stage = c.staged.Mat(x.Rows, x.Cols)
		for i := range x.Rows {
			c.choose(c.number(x.Row(i), nil, i, 0), b.AChoices, i)
		}
		return nil
	}
	y, err := nn.ViewCols(b.B, c.head.In())
	if err != nil {
		return err
	}
	if y.Rows != x.Rows || b.Scores != nil && len(b.Scores) != x.Rows {
		return fmt.Errorf("a batch has %d first sides, %d second sides and %d scores", x.Rows, y.Rows, len(b.Scores))
	}
	if (b.AIDs == nil) != (b.BIDs == nil) {
		return errors.New("a batch has ids of one side only")
	}
	if b.AIDs != nil && (len(b.AIDs) != x.Rows || len(b.BIDs) != x.Rows) {
		return fmt.Errorf("a batch of %d rows has %d and %d ids", x.Rows, len(b.AIDs), len(b.BIDs))
	}
	c.stage = c.staged.Mat(2*x.Rows, x.Cols)
	for i := range x.Rows {
		k := c.number(x.Row(i), b.AIDs, i, 0)
		c.choose(k, b.AChoices, i)
		l := c.number(y.Row(i), b.BIDs, i, 1)
		c.choose(l, b.BChoices, i)
		c.a, c.b = append(c.a, k), append(c.b, l)
	}
	c.scores = append(c.scores, b.Scores...)
	return nil
}

// number returns the number of the object ids[i], and stages its embedding
// if it is a new one; without ids it always is.
func (c *collector) number(embedding []float32, ids []int64, i, side int) int32 {
	n := int32(c.objects + c.fresh)
	if ids != nil {
		if known, ok := c.ids[ids[i]]; ok {
			return known
		}
		c.ids[ids[i]] = n
	}
	copy(c.stage.Row(c.fresh), embedding)
	c.places = append(c.places, Place{c.rows + int64(i), side})
	c.fresh++
	return n
}

// choose notes what object k chose of a switch encoder, if it is a new one.
// Equal objects chose equally: the choice is in their ids.
func (c *collector) choose(k int32, choices []string, i int) {
	if choices != nil && int(k) == c.objects+len(c.choices) {
		c.choices = append(c.choices, choices[i])
	}
}

// flush passes the staged objects through the head.
func (c *collector) flush() error {
	if c.fresh == 0 {
		return nil
	}
	c.staged.Mat(c.fresh, c.stage.Cols)
	y := c.result.Mat(c.fresh, c.head.Out())
	if err := head.Apply(c.head, c.result.Dense(), c.staged.Dense(), c.choices); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	c.choices = c.choices[:0]
	c.out = append(c.out, y.Data...)
	c.objects += c.fresh
	return nil
}

// MeanLoss is the mean loss over the samples of data behind a frozen head, in
// batches in the split's order: the mean of the batches', each by its number
// of samples. It does not change the loss.
func MeanLoss(ctx context.Context, data Data, f head.Frozen, l loss.Loss) (float64, error) {
	var a, b nn.Buffer
	var sum, rows float64
	embed := func(dst *nn.Buffer, x *tensor.Dense, choices []string) (*tensor.Dense, error) {
		if x == nil {
			return nil, nil
		}
		dst.Mat(x.Shape()[0], f.Out())
		if err := head.Apply(f, dst.Dense(), x, choices); err != nil {
			return nil, fmt.Errorf("head: %w", err)
		}
		return dst.Dense(), nil
	}
	for batch, err := range data.Scan(ctx) {
		if cause := ended(ctx, err); cause != nil {
			return 0, cause
		}
		if err != nil {
			return 0, err
		}
		embedded := *batch
		var res loss.Result
		if embedded.A, err = embed(&a, batch.A, batch.AChoices); err == nil {
			embedded.B, err = embed(&b, batch.B, batch.BChoices)
		}
		if err == nil {
			res, err = l.Compute(&embedded, false)
		}
		if err != nil {
			return 0, fmt.Errorf("loss: %w", err)
		}
		n := float64(batch.Rows())
		sum += res.Value * n
		rows += n
	}
	if cause := ended(ctx, nil); cause != nil {
		return 0, cause
	}
	if rows == 0 {
		return 0, ErrNoData
	}
	return sum / rows, nil
}
