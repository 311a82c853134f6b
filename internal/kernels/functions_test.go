package kernels

import (
	"math"
	"os"
	"runtime"
	"sync"
	"testing"
)

var functions = []struct {
	name  string
	of    func(dst, src []float32)
	is    function
	units float64
}{
	{"exp", Exp, funcExp, 2},
	{"tanh", Tanh, funcTanh, 2},
	{"sigmoid", Sigmoid, funcSigmoid, 2},
	{"erf", Erf, funcErf, 2},
	{"gelu", GELU, funcGELU, 4},
}

// unitsOff is the distance of got from want in units of the last place of
// want rounded to float32.
func unitsOff(got float32, want float64) float64 {
	w := float32(want)
	switch {
	case want != want || got != got:
		if want != want && got != got {
			return 0
		}
		return math.Inf(1)
	case got == w:
		return 0
	case math.IsInf(float64(got), 0) || math.IsInf(float64(w), 0):
		// One past the greatest number counts as the next one.
		if math.Abs(float64(got)) >= math.MaxFloat32 && math.Abs(float64(w)) >= math.MaxFloat32 && got > 0 == (w > 0) {
			return 1
		}
		return math.Inf(1)
	}
	_, e := math.Frexp(float64(w))
	return math.Abs(float64(got)-want) / math.Ldexp(1, max(e, -125)-24)
}

// TestFunctions compares the functions with float64 on a sample of all
// float32, or on every one if KERNELS_EXHAUSTIVE is set (which takes minutes).
func TestFunctions(t *testing.T) {
	step := uint64(1009)
	if os.Getenv("KERNELS_EXHAUSTIVE") != "" {
		step = 1
	} else if raceOn {
		step = 100_003
	}
	if !fast {
		t.Skip("the portable functions are what the others are compared with")
	}
	for _, f := range functions {
		t.Run(f.name, func(t *testing.T) {
			parts := runtime.GOMAXPROCS(0)
			worst, at := make([]float64, parts), make([]float32, parts)
			var wg sync.WaitGroup
			for p := range parts {
				wg.Go(func() {
					lo, hi := uint64(p)<<32/uint64(parts), uint64(p+1)<<32/uint64(parts)
					src, dst := make([]float32, 0, 4096), make([]float32, 4096)
					flush := func() {
						f.of(dst, src)
						for i, x := range src {
							if u := unitsOff(dst[i], f.is.exact(float64(x))); u > worst[p] {
								worst[p], at[p] = u, x
							}
						}
						src = src[:0]
					}
					for b := lo; b < hi; b += step {
						if src = append(src, math.Float32frombits(uint32(b))); len(src) == cap(src) {
							flush()
						}
					}
					flush()
				})
			}
			wg.Wait()
			for p, u := range worst {
				if t.Logf("off by %.3f units at %v", u, at[p]); u > f.units {
					t.Errorf("off by %v units at %v (%#x)", u, at[p], math.Float32bits(at[p]))
				}
			}
		})
	}
}

func TestFunctionsAtEdges(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	tiny, zero := float32(math.SmallestNonzeroFloat32), float32(math.Copysign(0, -1))
	src := []float32{0, zero, inf, -inf, nan, tiny, -tiny}
	for name, want := range map[string][]float32{
		"exp":     {1, 1, inf, 0, nan, 1, 1},
		"tanh":    {0, zero, 1, -1, nan, tiny, -tiny},
		"sigmoid": {0.5, 0.5, 1, 0, nan, 0.5, 0.5},
		"erf":     {0, zero, 1, -1, nan, tiny, -tiny},
		"gelu":    {0, zero, inf, zero, nan, 0, zero},
	} {
		profiles(t, func(t *testing.T) {
			for _, f := range functions {
				if f.name != name {
					continue
				}
				got := make([]float32, len(src))
				f.of(got, src)
				for i, w := range want {
					same := math.Float32bits(got[i]) == math.Float32bits(w) || w != w && got[i] != got[i]
					if !same && !(name == "gelu" && got[i] == tiny && src[i] == tiny) { // half of it may be rounded up
						t.Errorf("%s(%v) is %v, want %v", name, src[i], got[i], w)
					}
				}
			}
		})
	}
}

// TestFunctionsGuarded: every length gives each value the same bits, in place
// too, and nothing outside is touched.
func TestFunctionsGuarded(t *testing.T) {
	profiles(t, func(t *testing.T) {
		const most = 67
		all, want := make([]float32, most), make([]float32, most)
		for i := range all {
			all[i] = float32(math.Sin(float64(i))) * float32(i) / 4
		}
		for _, f := range functions {
			f.of(want, all)
			for n := range most {
				for _, atEnd := range []bool{false, true} {
					src, dst := guarded(t, n, atEnd), guarded(t, n, atEnd)
					copy(src, all[most-n:])
					f.of(dst, src)
					f.of(src, src)
					if !sameBits(dst, want[most-n:]) || !sameBits(src, dst) {
						t.Fatalf("%s of %d values differs", f.name, n)
					}
				}
			}
		}
	})
}

func BenchmarkFunctions(b *testing.B) {
	src, dst := make([]float32, 100_000), make([]float32, 100_000)
	for i := range src {
		src[i] = float32(math.Sin(float64(i))) * 5
	}
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f()
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(len(src)), "ns/value")
		})
	}
	for _, f := range functions {
		run(f.name, func() { f.of(dst, src) })
	}
	run("softmax", func() { Softmax(dst, src) })
	run("logsumexp", func() { LogSumExp(src) })
	run("normalize", func() { Normalize(dst, src, 1e-12) })
	gain, bias := make([]float32, len(src)), make([]float32, len(src))
	run("layernorm", func() { LayerNorm(dst, src, gain, bias, 1e-5) })
	other := make([]float32, len(src))
	run("addlayernorm", func() { AddLayerNorm(dst, src, other, gain, bias, 1e-5) })
	run("sum", func() { Sum(src) })
	run("max", func() { Max(src) })
	run("dot", func() { Dot(src, dst) })
	run("axpy", func() { Axpy(0.5, src, dst) })
}
