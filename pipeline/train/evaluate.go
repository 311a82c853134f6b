package train

import (
	"context"
	"errors"
	"fmt"

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
		if err == nil {
			err = c.add(b)
		}
		if err != nil {
			return nil, fmt.Errorf("batch %d: %w", c.batches, err)
		}
		c.batches++
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if c.objects == 0 {
		return nil, ErrNoData
	}
	rel := metric.ByLabel(c.labels)
	if c.pairs {
		var err error
		if rel, err = metric.ByPairs(c.objects, c.a, c.b); err != nil {
			return nil, err
		}
	}
	x := nn.Mat{Rows: c.objects, Cols: f.Out(), Data: c.out}
	return metric.Evaluate(ctx, nn.Wrap(x), rel, metrics...)
}

// collector gathers distinct objects, in order of first appearance.
type collector struct {
	head    head.Frozen
	pairs   bool
	batches int
	objects int
	out     []float32 // the head's output of every object
	ids     map[int64]int32
	a, b    []int32 // objects of the positive pairs
	labels  []int32 // of groups

	numbers [2][]int32 // of the objects of a batch, by side
	staged  nn.Buffer  // embeddings of a batch's new objects
	result  nn.Buffer
}

func (c *collector) add(b *Batch) error {
	x, err := nn.ViewCols(b.A, c.head.In())
	if err != nil {
		return err
	}
	if !c.pairs {
		if len(b.Labels) != x.Rows {
			return fmt.Errorf("a batch of %d rows has %d labels", x.Rows, len(b.Labels))
		}
		c.labels = append(c.labels, b.Labels...)
		return c.side(0, x, nil)
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
	if err := c.side(0, x, b.AIDs); err != nil {
		return err
	}
	if err := c.side(1, y, b.BIDs); err != nil {
		return err
	}
	for i := range x.Rows {
		if b.Scores == nil || b.Scores[i] > 0 {
			c.a, c.b = append(c.a, c.numbers[0][i]), append(c.b, c.numbers[1][i])
		}
	}
	return nil
}

// side numbers the objects of one side of a batch and passes those not seen
// before through the head.
func (c *collector) side(k int, x nn.Mat, ids []int64) error {
	if ids != nil && len(ids) != x.Rows {
		return fmt.Errorf("a batch of %d rows has %d ids", x.Rows, len(ids))
	}
	numbers, fresh := c.numbers[k][:0], 0
	stage := c.staged.Mat(x.Rows, x.Cols)
	for i := range x.Rows {
		number, known := int32(0), false
		if ids != nil {
			number, known = c.ids[ids[i]]
		}
		if !known {
			number = int32(c.objects + fresh)
			if ids != nil {
				c.ids[ids[i]] = number
			}
			copy(stage.Row(fresh), x.Row(i))
			fresh++
		}
		numbers = append(numbers, number)
	}
	c.numbers[k] = numbers
	if fresh == 0 {
		return nil
	}
	c.staged.Mat(fresh, x.Cols)
	y := c.result.Mat(fresh, c.head.Out())
	if err := c.head.Apply(c.result.Dense(), c.staged.Dense()); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	c.out = append(c.out, y.Data...)
	c.objects += fresh
	return nil
}
