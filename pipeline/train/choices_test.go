package train_test

import (
	"context"
	"iter"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

// choosing is a split whose objects chose one of two options: those with even
// numbers the first.
type choosing struct{ *memory }

func optionOf(id int64) string { return []string{"even", "odd"}[id%2] }

func (c choosing) Scan(ctx context.Context) iter.Seq2[*train.Batch, error] {
	return func(yield func(*train.Batch, error) bool) {
		for b, err := range c.memory.Scan(ctx) {
			for i := range b.AIDs {
				b.AChoices = append(b.AChoices, optionOf(b.AIDs[i]))
				b.BChoices = append(b.BChoices, optionOf(b.BIDs[i]))
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

// TestEvaluateRoutes: every object goes through the head of its choice, once,
// also where it is met again on another side or in another batch.
func TestEvaluateRoutes(t *testing.T) {
	data := toyPairs(60, 12, 1)
	for i := range data.aids {
		if i%3 > 0 { // objects that were there before
			data.aids[i], data.bids[i] = data.bids[i-1], data.aids[i-1]
			copy(data.a[i*12:(i+1)*12], data.b[(i-1)*12:])
			copy(data.b[i*12:(i+1)*12], data.a[(i-1)*12:i*12])
		}
	}
	routed := head.Switch{Options: map[string]head.Config{"even": head.Gated{}, "odd": head.SkipConnection{}}}
	even, odd := frozen(t, head.Gated{}, 12), frozen(t, head.SkipConnection{}, 12)
	// The same embeddings, made without a switch.
	by := &memory{kind: data.kind, dim: 12, batch: 7, aids: data.aids, bids: data.bids}
	one := func(x []float32, id int64) []float32 {
		f := even
		if optionOf(id) == "odd" {
			f = odd
		}
		row := []int{0}
		dst := gather(make([]float32, 12), x, 12, row)
		if err := f.Apply(dst, gather(make([]float32, 12), x, 12, row)); err != nil {
			t.Fatal(err)
		}
		return dst.Float32s()
	}
	for i := range data.aids {
		by.a = append(by.a, one(data.a[i*12:(i+1)*12], data.aids[i])...)
		by.b = append(by.b, one(data.b[i*12:(i+1)*12], data.bids[i])...)
	}
	want, err := train.Evaluate(t.Context(), by, frozen(t, head.Empty{}, 12), metric.ReciprocalRank{})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 7, 1000} {
		data.batch = size
		got, err := train.Evaluate(t.Context(), choosing{data}, frozen(t, routed, 12), metric.ReciprocalRank{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Objects != want.Objects || got.Values["reciprocal_rank"] != want.Values["reciprocal_rank"] {
			t.Errorf("batches of %d give %+v, want %+v", size, got, want)
		}
	}
	if _, err := train.Evaluate(t.Context(), data, frozen(t, routed, 12)); err == nil {
		t.Error("no choices: no error")
	}
}
