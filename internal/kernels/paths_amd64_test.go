//go:build amd64 && !purego

package kernels

import (
	"hash/crc64"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

// both runs f with AVX-512 and with AVX2.
func both(t *testing.T, f func() []uint64) (wider, narrower []uint64) {
	t.Helper()
	if !fast || !wide {
		t.Skip("needs a processor with AVX-512")
	}
	defer func() { wide = true }()
	wider = f()
	wide = false
	return wider, f()
}

// operands are slices of one length that a function may read, and write.
type operands struct{ x, y, gain, bias, dst []float32 }

// vectorFuncs are the functions that have two paths; those with a number as
// result return its bits.
var vectorFuncs = []struct {
	name string
	call func(o operands) uint64
}{
	{"exp", func(o operands) uint64 { Exp(o.dst, o.x); return 0 }},
	{"tanh", func(o operands) uint64 { Tanh(o.dst, o.x); return 0 }},
	{"sigmoid", func(o operands) uint64 { Sigmoid(o.dst, o.x); return 0 }},
	{"erf", func(o operands) uint64 { Erf(o.dst, o.x); return 0 }},
	{"gelu", func(o operands) uint64 { GELU(o.dst, o.x); return 0 }},
	{"gelu in place", func(o operands) uint64 { copy(o.dst, o.x); GELU(o.dst, o.dst); return 0 }},
	{"softmax", func(o operands) uint64 { Softmax(o.dst, o.x); return 0 }},
	{"softmax in place", func(o operands) uint64 { copy(o.dst, o.x); Softmax(o.dst, o.dst); return 0 }},
	{"scaled softmax", func(o operands) uint64 { ScaledSoftmax(o.dst, o.x, 0.125); return 0 }},
	{"add layer norm", func(o operands) uint64 { AddLayerNorm(o.dst, o.x, o.y, o.gain, o.bias, 1e-5); return 0 }},
	{"exp sum", func(o operands) uint64 { return math.Float64bits(ExpSum(o.dst, o.x, 1.5)) }},
	{"log-sum-exp", func(o operands) uint64 { return uint64(math.Float32bits(LogSumExp(o.x))) }},
	{"sum", func(o operands) uint64 { return math.Float64bits(Sum(o.x)) }},
	{"dot", func(o operands) uint64 { return math.Float64bits(Dot(o.x, o.y)) }},
	{"max", func(o operands) uint64 { return uint64(math.Float32bits(Max(o.x))) }},
	{"normalize", func(o operands) uint64 { return uint64(math.Float32bits(Normalize(o.dst, o.x, 1e-12))) }},
	{"layer norm", func(o operands) uint64 { LayerNorm(o.dst, o.x, o.gain, o.bias, 1e-5); return 0 }},
}

// TestPathsAgree: AVX-512 and AVX2 give the same bits for every length, at
// every offset, for usual and unusual values, and read and write nothing
// outside of the operands.
func TestPathsAgree(t *testing.T) {
	for name, value := range map[string]func(r *rand.Rand) float32{
		"usual": func(r *rand.Rand) float32 { return 3 * float32(r.NormFloat64()) },
		"large": func(r *rand.Rand) float32 { return 60 * float32(r.NormFloat64()) },
		"any": func(r *rand.Rand) float32 {
			if r.IntN(20) > 0 {
				return float32(r.NormFloat64())
			}
			return math.Float32frombits(r.Uint32())
		},
		"signs": func(r *rand.Rand) float32 { return math.Float32frombits(r.Uint32() & (1 << 31)) },
	} {
		t.Run(name, func(t *testing.T) {
			longest := 300
			if raceOn {
				longest = 70
			}
			for n := range longest {
				offset := n % 5
				// The operands end at a page that cannot be read.
				room := func() []float32 { return guarded(t, n+offset, true)[offset:] }
				if n%2 == 1 {
					room = func() []float32 { return guarded(t, n+offset, false)[:n] }
				}
				if n == 0 {
					room = func() []float32 { return nil }
				}
				o := operands{room(), room(), room(), room(), room()}
				r := rand.New(rand.NewPCG(uint64(n), 1))
				for _, v := range [][]float32{o.x, o.y, o.gain, o.bias} {
					for i := range v {
						v[i] = value(r)
					}
				}
				for _, f := range vectorFuncs {
					wider, narrower := both(t, func() []uint64 {
						clear(o.dst)
						bits := []uint64{f.call(o)}
						for _, v := range o.dst {
							bits = append(bits, uint64(math.Float32bits(v)))
						}
						return bits
					})
					for i, w := range wider {
						if w != narrower[i] {
							t.Fatalf("%s of %d values: bits %#x with AVX-512 and %#x with AVX2 at %d", f.name, n, w, narrower[i], i-1)
						}
					}
				}
			}
		})
	}
}

// TestFunctionPathsAgree does so for a sample of all float32, or for every one
// if KERNELS_EXHAUSTIVE is set.
func TestFunctionPathsAgree(t *testing.T) {
	const part = 1 << 16
	step := 251
	if os.Getenv("KERNELS_EXHAUSTIVE") != "" {
		step = 1
	} else if raceOn {
		step = 40_009
	}
	table := crc64.MakeTable(crc64.ECMA)
	for _, f := range functions {
		t.Run(f.name, func(t *testing.T) {
			wider, narrower := both(t, func() []uint64 {
				sums := make([]uint64, 1<<32/part)
				var wg sync.WaitGroup
				for p := range runtime.GOMAXPROCS(0) {
					wg.Go(func() {
						src, dst := make([]float32, part), make([]float32, part)
						for i := p * step; i < len(sums); i += step * runtime.GOMAXPROCS(0) {
							for j := range src {
								src[j] = math.Float32frombits(uint32(i*part + j))
							}
							f.of(dst, src)
							sums[i] = crc64.Checksum(unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), 4*part), table)
						}
					})
				}
				wg.Wait()
				return sums
			})
			for i, w := range wider {
				if w != narrower[i] {
					t.Fatalf("other bits from %#x on", i*part)
				}
			}
		})
	}
}

// TestAVX2Alone: only what is named for AVX-512 needs it, whatever the
// processor of the tests has. The assembler encodes the upper registers of
// AVX-512 without a word where a function for AVX2 names them.
func TestAVX2Alone(t *testing.T) {
	upper := regexp.MustCompile(`\b[XYZ](1[6-9]|2\d|3[01])\b|\bZ\d+\b|\bK\d\b`)
	files, err := filepath.Glob("*_amd64.s")
	if err != nil || len(files) < 8 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name, extensions, allowed, count := "", "", false, 0
		for line := range strings.Lines(string(text)) {
			if e, ok := strings.CutPrefix(line, "// Requires: "); ok {
				extensions = e
			} else if l, ok := strings.CutPrefix(line, "TEXT ·"); ok {
				count++
				name, _, _ = strings.Cut(l, "(")
				allowed = strings.HasSuffix(name, "AVX512") || strings.Contains(file, "512")
				if strings.Contains(extensions, "AVX512") != allowed {
					t.Errorf("%s requires %s", name, extensions)
				}
				extensions = ""
			} else if !allowed && upper.MatchString(line) {
				t.Errorf("%s has %s", name, strings.TrimSpace(line))
			}
		}
		if count == 0 {
			t.Errorf("%s has no functions", file)
		}
	}
}
