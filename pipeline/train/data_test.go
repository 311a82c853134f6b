package train_test

import (
	"context"
	"iter"
	"math/rand/v2"
	"slices"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

// memory is a split in memory. Epochs are shuffled by their number; a batch
// is one gather into memory that the next turn takes back.
type memory struct {
	kind       loss.Kind
	dim, batch int
	a, b       []float32
	labels     []int32
	classes    int
	scores     []float32
	aids, bids []int64
	texts      []string // of both sides, for encoders that read them
}

func (m *memory) Kind() loss.Kind { return m.kind }
func (m *memory) Dim() int        { return m.dim }
func (m *memory) Rows() int64     { return int64(len(m.a) / m.dim) }
func (m *memory) Classes() int    { return m.classes }
func (m *memory) Batches(epochs int) int64 {
	return (m.Rows() + int64(m.batch) - 1) / int64(m.batch) * int64(epochs)
}

func (m *memory) Epoch(ctx context.Context, epoch int, done int64) iter.Seq2[*train.Batch, error] {
	order := rand.New(rand.NewPCG(uint64(epoch), 99)).Perm(int(m.Rows()))
	return m.batches(ctx, order[min(int(done)*m.batch, len(order)):])
}

func (m *memory) Scan(ctx context.Context) iter.Seq2[*train.Batch, error] {
	order := make([]int, m.Rows())
	for i := range order {
		order[i] = i
	}
	return m.batches(ctx, order)
}

func (m *memory) batches(ctx context.Context, order []int) iter.Seq2[*train.Batch, error] {
	return func(yield func(*train.Batch, error) bool) {
		a, b := make([]float32, m.batch*m.dim), make([]float32, m.batch*m.dim)
		for rows := range slices.Chunk(order, m.batch) {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			out := &train.Batch{A: gather(a, m.a, m.dim, rows)}
			if m.kind == loss.Pairs {
				out.B = gather(b, m.b, m.dim, rows)
			}
			out.Labels = pick(m.labels, rows)
			out.Scores = pick(m.scores, rows)
			out.AIDs, out.BIDs = pick(m.aids, rows), pick(m.bids, rows)
			if m.texts != nil {
				out.ATexts = [][]string{pick(m.texts, rows)}
				out.BTexts = out.ATexts
			}
			for _, r := range rows {
				out.Index = append(out.Index, int64(r))
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

func gather(dst, src []float32, dim int, rows []int) *tensor.Dense {
	for i, r := range rows {
		copy(dst[i*dim:(i+1)*dim], src[r*dim:(r+1)*dim])
	}
	return tensor.New(tensor.WithShape(len(rows), dim), tensor.WithBacking(dst[:len(rows)*dim]))
}

func pick[T any](column []T, rows []int) []T {
	if column == nil {
		return nil
	}
	out := make([]T, len(rows))
	for i, r := range rows {
		out[i] = column[r]
	}
	return out
}

// toyPairs are n pairs that share the first half of their values, up to some
// noise; the second half is larger and means nothing. A head can learn to
// leave it out.
func toyPairs(n, dim, batch int) *memory {
	rng := rand.New(rand.NewPCG(3, 4))
	m := &memory{kind: loss.Pairs, dim: dim, batch: batch}
	for i := range n {
		for j := range dim {
			if v := rng.NormFloat64(); j < dim/2 {
				m.a = append(m.a, float32(v))
				m.b = append(m.b, float32(v+0.3*rng.NormFloat64()))
			} else {
				m.a = append(m.a, float32(2*v))
				m.b = append(m.b, float32(2*rng.NormFloat64()))
			}
		}
		m.aids, m.bids = append(m.aids, int64(2*i)), append(m.bids, int64(2*i+1))
	}
	return m
}

// toyGroups are n vectors whose first values tell the class, among larger
// ones that mean nothing.
func toyGroups(n, dim, classes, batch int) *memory {
	rng := rand.New(rand.NewPCG(5, 6))
	m := &memory{kind: loss.Groups, dim: dim, batch: batch, classes: classes}
	for i := range n {
		label := i % classes
		for j := range dim {
			v := rng.NormFloat64()
			if j < classes {
				v *= 0.2
			}
			if j == label {
				v++
			}
			m.a = append(m.a, float32(v))
		}
		m.labels = append(m.labels, int32(label))
	}
	return m
}
