package encodetest_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/encodetest"
)

const dim = 8

// toy is a model that keeps the contract, with places to break it at.
type toy struct {
	spec   func(*encode.Spec) error
	open   func(worker int) error
	dim    int
	before func(ctx context.Context, batch []encode.Input, dst []float32) (done bool, err error)
	after  func(ctx context.Context, batch []encode.Input, dst []float32) error
	close  func() error
}

func (m *toy) Spec(context.Context) (encode.Spec, error) {
	s := encode.Spec{Engine: "toy", Dim: dim, Fields: []encode.Field{{Name: "weights", Value: "none"}}, BatchInvariant: true}
	if m.spec != nil {
		if err := m.spec(&s); err != nil {
			return encode.Spec{}, err
		}
	}
	return s, nil
}

func (m *toy) Open(_ context.Context, worker int) (encode.Encoder, error) {
	if m.open != nil {
		if err := m.open(worker); err != nil {
			return nil, err
		}
	}
	return &toyEncoder{m, worker}, nil
}

type toyEncoder struct {
	*toy
	worker int
}

func (e *toyEncoder) Dim() int { return dim + e.dim }

func (e *toyEncoder) Close() error {
	if e.close != nil {
		return e.close()
	}
	return nil
}

func (e *toyEncoder) Encode(ctx context.Context, batch []encode.Input, dst []float32) error {
	if e.before != nil {
		if done, err := e.before(ctx, batch, dst); done || err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, in := range batch {
		h := fnv.New32a()
		h.Write([]byte(in.Text()))
		for d := range dim {
			dst[i*dim+d] = float32(h.Sum32()>>d&0xff) / 256
		}
	}
	if e.after != nil {
		return e.after(ctx, batch, dst)
	}
	return nil
}

// after breaks the output of an encoder that is fine otherwise.
func after(fn func(batch []encode.Input, dst []float32)) *toy {
	return &toy{after: func(_ context.Context, batch []encode.Input, dst []float32) error {
		fn(batch, dst)
		return nil
	}}
}

func TestGoodEncodersPass(t *testing.T) {
	t.Run("toy", func(t *testing.T) { encodetest.Run(t, &toy{}, encodetest.Options{}) })
	t.Run("own inputs", func(t *testing.T) {
		encodetest.Run(t, &toy{}, encodetest.Options{
			Inputs:    []encode.Input{{encode.NumberValue(math.NaN())}, {encode.BytesValue([]byte{1, 2}), encode.TextValue("two")}},
			Instances: 2, BatchSizes: []int{1, 5},
		})
	})
	t.Run("not batch-invariant and saying so", func(t *testing.T) {
		m := after(func(batch []encode.Input, dst []float32) { shift(dst, float32(len(batch))) })
		m.spec = func(s *encode.Spec) error { s.BatchInvariant = false; return nil }
		encodetest.Run(t, m, encodetest.Options{})
	})
}

func shift(dst []float32, by float32) {
	for i := range dst {
		dst[i] += by
	}
}

func TestBrokenEncodersAreCaught(t *testing.T) {
	errBroken := errors.New("broken on purpose")
	var calls atomic.Int64
	for _, tc := range []struct {
		name  string
		model *toy
		rules string // any of these must be named
	}{
		{"no spec", &toy{spec: func(*encode.Spec) error { return errBroken }}, "spec"},
		{"no fingerprint", &toy{spec: func(s *encode.Spec) error { s.Fields = nil; return nil }}, "spec"},
		{"a spec that changes", &toy{spec: func(s *encode.Spec) error {
			s.Fields[0].Value = fmt.Sprint(calls.Add(1))
			return nil
		}}, "spec"},
		{"a spec of no dimension", &toy{spec: func(s *encode.Spec) error { s.Dim = 0; return nil }}, "spec"},
		{"another dimension than declared", &toy{dim: 1}, "dim"},
		{"a negative dimension", &toy{dim: -20}, "dim"},
		{"opens only once", func() *toy {
			n := 0
			return &toy{open: func(int) error { n++; return map[bool]error{true: errBroken}[n > 1] }}
		}(), "open"},
		{"opens worker 0 only", &toy{open: func(w int) error { return map[bool]error{true: errBroken}[w > 0] }}, "open"},
		{"panics at Open", &toy{open: func(int) error { panic("no weights") }}, "open"},
		{"fails on an empty text", &toy{before: func(_ context.Context, batch []encode.Input, _ []float32) (bool, error) {
			for _, in := range batch {
				if in.Text() == "" {
					return true, errBroken
				}
			}
			return false, nil
		}}, "encode"},
		{"leaves the last value alone", &toy{before: func(_ context.Context, batch []encode.Input, dst []float32) (bool, error) {
			for i := range dst[:max(0, len(dst)-1)] {
				dst[i] = 1
			}
			return true, nil
		}}, "dst"},
		{"adds to what is there", &toy{before: func(_ context.Context, _ []encode.Input, dst []float32) (bool, error) {
			shift(dst, 1)
			return true, nil
		}}, "dst"},
		{"writes behind dst", after(func(_ []encode.Input, dst []float32) {
			if cap(dst) > len(dst) {
				dst[:len(dst)+1][len(dst)] = 1
			}
		}), "dst"},
		{"NaN for white space", after(func(batch []encode.Input, dst []float32) {
			for i, in := range batch {
				if strings.TrimSpace(in.Text()) == "" {
					dst[i*dim] = float32(math.NaN())
				}
			}
		}), "finite"},
		{"infinite for long texts", after(func(batch []encode.Input, dst []float32) {
			for i, in := range batch {
				if len(in.Text()) > 1000 {
					dst[i*dim+3] = float32(math.Inf(-1))
				}
			}
		}), "finite"},
		{"a counter in the output", after(func(_ []encode.Input, dst []float32) {
			shift(dst, float32(calls.Add(1)%1000))
		}), "deterministic"},
		{"depends on the batch's size", after(func(batch []encode.Input, dst []float32) { shift(dst, float32(len(batch))) }), "batch_invariant"},
		{"depends on the neighbour", after(func(batch []encode.Input, dst []float32) {
			for i := 1; i < len(batch); i++ {
				dst[i*dim] += float32(len(batch[i-1].Text()))
			}
		}), "batch_invariant"},
		{"the batch's last bit", after(func(batch []encode.Input, dst []float32) {
			if len(batch) == 7 {
				dst[0] = math.Float32frombits(math.Float32bits(dst[0]) ^ 1)
			}
		}), "batch_invariant"},
		{"no empty batch", &toy{before: func(_ context.Context, batch []encode.Input, dst []float32) (bool, error) {
			return false, map[bool]error{true: errBroken}[len(batch) == 0]
		}}, "empty_batch"},
		{"panics on an empty batch", after(func(batch []encode.Input, _ []float32) { _ = batch[0] }), "edges"},
		{"changes its input", after(func(batch []encode.Input, _ []float32) {
			if len(batch) > 0 {
				batch[0] = encode.Input{encode.TextValue("other")}
			}
		}), "input"},
		{"ignores the context", &toy{before: func(_ context.Context, batch []encode.Input, dst []float32) (bool, error) {
			clear(dst)
			return true, nil
		}}, "cancel"},
		{"an error of its own for a cancelled context", &toy{before: func(ctx context.Context, _ []encode.Input, _ []float32) (bool, error) {
			return false, map[bool]error{true: errBroken}[ctx.Err() != nil]
		}}, "cancel"},
		{"dead after a cancelled call", func() *toy {
			dead := false
			return &toy{before: func(ctx context.Context, _ []encode.Input, _ []float32) (bool, error) {
				dead = dead || ctx.Err() != nil
				if dead {
					return true, context.Canceled
				}
				return false, nil
			}}
		}(), "encode"},
		{"fails beside others", func() *toy {
			var inside atomic.Int64
			return &toy{before: func(context.Context, []encode.Input, []float32) (bool, error) {
				defer inside.Add(-1)
				if inside.Add(1) > 1 {
					return true, errBroken
				}
				time.Sleep(2 * time.Millisecond)
				return false, nil
			}}
		}(), "encode"},
		{"Close fails", &toy{close: func() error { return errBroken }}, "close"},
		{"panics at Close", &toy{close: func() error { panic("closed twice") }}, "close"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := encodetest.Check(t.Context(), tc.model, encodetest.Options{})
			if !named(err, tc.rules) {
				t.Errorf("Check gives %v, want a violation of %s", err, tc.rules)
			}
		})
	}
}

// TestInstancesThatDifferAreCaught has encoders that are fine each by itself.
func TestInstancesThatDifferAreCaught(t *testing.T) {
	err := encodetest.Check(t.Context(), byWorker{&toy{}}, encodetest.Options{})
	if !named(err, "instances") || named(err, "deterministic") {
		t.Errorf("Check gives %v, want a violation of instances and none of deterministic", err)
	}
}

type byWorker struct{ *toy }

func (m byWorker) Open(_ context.Context, worker int) (encode.Encoder, error) {
	return &toyEncoder{after(func(_ []encode.Input, dst []float32) { shift(dst, float32(worker)) }), worker}, nil
}

// TestKeptMemoryIsCaught has an encoder that writes to an earlier call's dst.
func TestKeptMemoryIsCaught(t *testing.T) {
	if err := encodetest.Check(t.Context(), keeper{&toy{}}, encodetest.Options{}); !named(err, "kept") {
		t.Errorf("Check gives %v, want a violation of kept", err)
	}
}

type keeper struct{ *toy }

func (m keeper) Open(context.Context, int) (encode.Encoder, error) {
	var kept []float32 // of this instance, so that -race has nothing to say
	return &toyEncoder{after(func(_ []encode.Input, dst []float32) {
		shift(kept, 1)
		kept = dst
	}), 0}, nil
}

func TestCheckEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := encodetest.Check(ctx, &toy{}, encodetest.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Check gives %v", err)
	}
}

// named reports whether err holds a violation of that rule.
func named(err error, rule string) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return false
	}
	for _, e := range joined.Unwrap() {
		var v *encodetest.Violation
		if errors.As(e, &v) && v.Rule == rule {
			return true
		}
	}
	return false
}

// preparing is a toy that prepares inputs by its own rule.
type preparing struct {
	*toy
	prepare func(in encode.Input) []byte
}

func (m preparing) OpenPreparer(context.Context, int) (encode.Preparer, error) { return m, nil }

func (m preparing) Prepare(dst []byte, in encode.Input) ([]byte, int, error) {
	b := m.prepare(in)
	return append(dst, b...), len(b), nil
}

func (preparing) Close() error { return nil }

func (m preparing) Open(ctx context.Context, worker int) (encode.Encoder, error) {
	enc, err := m.toy.Open(ctx, worker)
	return preparedToy{enc}, err
}

type preparedToy struct{ encode.Encoder }

func (e preparedToy) EncodePrepared(ctx context.Context, batch [][]byte, dst []float32) error {
	inputs := make([]encode.Input, len(batch))
	for i, b := range batch {
		inputs[i] = encode.Input{encode.TextValue(string(b))}
	}
	return e.Encode(ctx, inputs, dst)
}

// TestPreparedInputsAreChecked: what is prepared must give the same bits.
func TestPreparedInputsAreChecked(t *testing.T) {
	encodetest.Run(t, preparing{&toy{}, func(in encode.Input) []byte { return []byte(in.Text()) }}, encodetest.Options{})
	lossy := preparing{&toy{}, func(in encode.Input) []byte { return []byte(strings.ToLower(in.Text())) }}
	if err := encodetest.Check(t.Context(), lossy, encodetest.Options{}); !named(err, "prepared") {
		t.Errorf("Check gives %v, want a violation of prepared", err)
	}
}
