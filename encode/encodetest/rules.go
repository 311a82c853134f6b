package encodetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/permafrost-ml/permafrost/encode"
)

// spec: the declaration is valid and the same each time.
func (c *checker) spec(ctx context.Context) {
	first, err := c.model.Spec(ctx)
	if err != nil {
		c.failf("spec", "%v", err)
		return
	}
	if _, err := first.Declared(32); err != nil {
		c.failf("spec", "%v", err)
	}
	again, err := c.model.Spec(ctx)
	if err != nil || !reflect.DeepEqual(first, again) {
		c.failf("spec", "the second call gives %+v, %v; the first gave %+v", again, err, first)
	}
	var wg sync.WaitGroup
	specs, errs := make([]encode.Spec, c.opts.Instances), make([]error, c.opts.Instances)
	for i := range specs {
		wg.Go(func() { specs[i], errs[i] = c.model.Spec(ctx) })
	}
	wg.Wait()
	for i := range specs {
		if errs[i] != nil || !reflect.DeepEqual(first, specs[i]) {
			c.failf("spec", "a concurrent call gives %+v, %v; the first gave %+v", specs[i], errs[i], first)
			return
		}
	}
}

// declared returns the model's spec, the zero Spec where there is none (which
// the rule "spec" reports).
func (c *checker) declared(ctx context.Context) encode.Spec {
	spec, err := c.model.Spec(ctx)
	if err != nil {
		return encode.Spec{}
	}
	return spec
}

// open: encoders open for any worker and have the declared dimension; opening
// does not change the declaration.
func (c *checker) open(ctx context.Context) {
	before := c.declared(ctx)
	for _, worker := range []int{0, 1, 5, 0} {
		c.with(ctx, worker, func(enc encode.Encoder) {
			if enc.Dim() != before.Dim {
				c.failf("dim", "the encoder says %d, the spec %d", enc.Dim(), before.Dim)
			}
		})
	}
	if after := c.declared(ctx); !reflect.DeepEqual(before, after) {
		c.failf("spec", "after Open it is %+v, before %+v", after, before)
	}
}

// output: every value of dst is written, nothing around it, and all are finite.
func (c *checker) output(ctx context.Context) {
	c.with(ctx, 0, func(enc encode.Encoder) {
		dim := enc.Dim()
		for _, size := range c.opts.BatchSizes {
			batch := repeat(c.opts.Inputs, size)
			// An encoder that leaves a value alone shows what was there before.
			a, okA := c.encode(ctx, enc, batch, math.Float32frombits(poison))
			b, okB := c.encode(ctx, enc, batch, 12345)
			if !okA || !okB {
				return
			}
			for i, v := range a {
				what := ""
				rule := "dst"
				switch {
				case isPoison(v) || b[i] == 12345 && v != b[i]:
					what = "is not written"
				case v != v || math.IsInf(float64(v), 0):
					rule, what = "finite", fmt.Sprintf("is %v, for input %.60q", v, batch[i/dim].Text())
				case math.Float32bits(v) != math.Float32bits(b[i]):
					what = fmt.Sprintf("is %v or %v, by what dst held before or from call to call", v, b[i])
				default:
					continue
				}
				c.failf(rule, "value %d of embedding %d of %d %s", i%dim, i/dim, size, what)
				return
			}
		}
	})
}

// deterministic: the same batch gives the same bits from one encoder, whatever
// it encoded in between, and from another.
func (c *checker) deterministic(ctx context.Context) {
	batch := c.opts.Inputs
	var first []float32
	c.with(ctx, 0, func(enc encode.Encoder) {
		var ok bool
		if first, ok = c.encode(ctx, enc, batch, 0); !ok {
			return
		}
		reversed := slices.Clone(batch)
		slices.Reverse(reversed)
		if _, ok := c.encode(ctx, enc, reversed, 0); !ok {
			return
		}
		if again, ok := c.encode(ctx, enc, batch, 1); ok {
			c.same("deterministic", "the same batch again", batch, again, first, enc.Dim())
		}
	})
	for worker := range 3 {
		c.with(ctx, worker, func(enc encode.Encoder) {
			if other, ok := c.encode(ctx, enc, batch, 0); ok && first != nil {
				c.same("instances", "another instance", batch, other, first, enc.Dim())
			}
		})
	}
}

// batchInvariant: where it is declared, an input has the same bits in batches
// of every size, order and company.
func (c *checker) batchInvariant(ctx context.Context) {
	if !c.declared(ctx).BatchInvariant {
		return
	}
	c.with(ctx, 0, func(enc encode.Encoder) {
		dim, n := enc.Dim(), len(c.opts.Inputs)
		want, ok := c.encode(ctx, enc, c.opts.Inputs, 0)
		if !ok {
			return
		}
		for _, size := range c.opts.BatchSizes {
			for shift := 0; shift < n; shift += max(1, size) {
				// Neighbours change with the step, which has no common divisor with n.
				step := stride(n, size)
				batch, expect := make([]encode.Input, size), make([]float32, 0, size*dim)
				for i := range batch {
					at := (shift + i*step) % n
					batch[i] = c.opts.Inputs[at]
					expect = append(expect, want[at*dim:(at+1)*dim]...)
				}
				got, ok := c.encode(ctx, enc, batch, 0)
				if !ok || !c.same("batch_invariant", "in another batch", batch, got, expect, dim) {
					return
				}
			}
		}
	})
}

// prepared: a model that prepares inputs gives the same bits for them.
func (c *checker) prepared(ctx context.Context) {
	m, ok := encode.Unwrap(c.model).(encode.Preparing)
	if !ok {
		return
	}
	p, err := m.OpenPreparer(ctx, 0)
	if err != nil {
		c.failf("prepared", "open: %v", err)
		return
	}
	defer func() {
		if err := p.Close(); err != nil {
			c.failf("close", "the preparer: %v", err)
		}
	}()
	batch := make([][]byte, len(c.opts.Inputs))
	for i, in := range c.opts.Inputs {
		if batch[i], _, err = p.Prepare(nil, in); err != nil {
			c.failf("prepared", "input %.60q: %v", in.Text(), err)
			return
		}
	}
	c.with(ctx, 0, func(enc encode.Encoder) {
		pe, ok := enc.(encode.PreparedEncoder)
		if !ok {
			c.failf("prepared", "the encoder is no encode.PreparedEncoder")
			return
		}
		want, ok := c.encode(ctx, enc, c.opts.Inputs, 0)
		got := make([]float32, len(batch)*enc.Dim())
		if err := pe.EncodePrepared(ctx, batch, got); err != nil {
			c.failf("prepared", "%v", err)
		} else if ok {
			c.same("prepared", "prepared", c.opts.Inputs, got, want, enc.Dim())
		}
	})
}

// edges: an empty batch is fine, and dst is not kept.
func (c *checker) edges(ctx context.Context) {
	c.with(ctx, 0, func(enc encode.Encoder) {
		if err := enc.Encode(ctx, nil, nil); err != nil {
			c.failf("empty_batch", "%v", err)
		}
		dim, batch := enc.Dim(), c.opts.Inputs
		first, ok := c.encode(ctx, enc, batch, 0)
		if !ok {
			return
		}
		kept := slices.Clone(first)
		if _, ok := c.encode(ctx, enc, batch[len(batch)/2:], 0); !ok {
			return
		}
		// An encoder that goes on in the background has had time to show it.
		runtime.Gosched()
		time.Sleep(time.Millisecond)
		c.same("kept", "dst of an earlier call, after a later call", batch, first, kept, dim)
	})
}

// cancel: a context that has ended ends Encode with its error, and the encoder
// still works afterwards.
func (c *checker) cancel(ctx context.Context) {
	c.with(ctx, 0, func(enc encode.Encoder) {
		want, ok := c.encode(ctx, enc, c.opts.Inputs, 0)
		if !ok {
			return
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		dst := make([]float32, len(want))
		if err := enc.Encode(ended, c.opts.Inputs, dst); !errors.Is(err, context.Canceled) {
			c.failf("cancel", "Encode under a cancelled context gives %v, want an error that is context.Canceled", err)
		}
		if got, ok := c.encode(ctx, enc, c.opts.Inputs, 0); ok {
			c.same("cancel", "after a cancelled call", c.opts.Inputs, got, want, enc.Dim())
		}
	})
}

// concurrent: several instances at once give what one gives alone.
func (c *checker) concurrent(ctx context.Context) {
	var want []float32
	dim := 0
	c.with(ctx, 0, func(enc encode.Encoder) {
		dim = enc.Dim()
		want, _ = c.encode(ctx, enc, c.opts.Inputs, 0)
	})
	if want == nil {
		return
	}
	var wg sync.WaitGroup
	workers := make([]*checker, c.opts.Instances)
	for i := range workers {
		// A checker for each, so that what they find needs no lock.
		w := &checker{model: c.model, opts: c.opts}
		workers[i] = w
		r := rule{"concurrent", func(w *checker, ctx context.Context) {
			w.with(ctx, i, func(enc encode.Encoder) {
				for range 3 {
					got, ok := w.encode(ctx, enc, w.opts.Inputs, 0)
					if !ok || !w.same("concurrent", "beside other instances", w.opts.Inputs, got, want, dim) {
						return
					}
				}
			})
		}}
		wg.Go(func() { w.found = w.check(ctx, r) })
	}
	wg.Wait()
	for _, w := range workers {
		c.found = append(c.found, w.found...)
	}
}

// close: an encoder closes unused and used, and closing one leaves others be.
func (c *checker) close(ctx context.Context) {
	c.with(ctx, 0, func(encode.Encoder) {})
	c.with(ctx, 0, func(stays encode.Encoder) {
		want, ok := c.encode(ctx, stays, c.opts.Inputs, 0)
		if !ok {
			return
		}
		c.with(ctx, 1, func(goes encode.Encoder) { c.encode(ctx, goes, c.opts.Inputs, 0) })
		if got, ok := c.encode(ctx, stays, c.opts.Inputs, 0); ok {
			c.same("close", "after another instance was closed", c.opts.Inputs, got, want, stays.Dim())
		}
	})
}
