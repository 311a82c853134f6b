package kernels

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// TestTrainingSteps: every path has the bits of operations that are each
// rounded by themselves, and nothing outside the operands is touched.
func TestTrainingSteps(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 9, 31, 32, 33, 41, 300} {
		for _, atEnd := range []bool{false, true} {
			r := rand.New(rand.NewPCG(uint64(n), 5))
			draw := func() []float32 {
				v := guarded(t, n, atEnd)
				for i := range v {
					v[i] = float32(r.NormFloat64())
				}
				return v
			}
			w, g, m, v := draw(), draw(), draw(), draw()
			for i := range v {
				v[i] *= v[i]
			}
			if n > 8 {
				g[3], m[3], v[3] = 0, 0, 0
				v[5], m[6] = infinity, nan
			}
			step := AdamStep{Keep1: 0.9, Add1: 0.1, Keep2: 0.999, Add2: 0.001, Rate: 0.01, Root: 0.3, Eps: 1e-8}
			wantW, wantM, wantV := slices.Clone(w), slices.Clone(m), slices.Clone(v)
			for i, d := range g {
				wantM[i] = float32(step.Keep1*m[i]) + float32(step.Add1*d)
				wantV[i] = float32(step.Keep2*v[i]) + float32(float32(step.Add2*d)*d)
				root := float32(math.Sqrt(float64(wantV[i])))
				wantW[i] = w[i] - float32(float32(step.Rate*wantM[i])/float32(float32(root/step.Root)+step.Eps))
			}

			x, z, bias, gate := draw(), draw(), draw(), draw()
			wantZ, wantY := slices.Clone(z), slices.Clone(z)
			for i := range z {
				wantZ[i] = z[i] + bias[i]
				wantY[i] = float32(wantZ[i]*gate[i]) + x[i]
			}

			dy := draw()
			sums, gateSums := doubles(t, n, atEnd), doubles(t, n, atEnd)
			wantDZ, wantSums, wantGates := slices.Clone(dy), make([]float64, n), make([]float64, n)
			for i, d := range dy {
				sums[i], gateSums[i] = r.Float64(), r.Float64()
				wantDZ[i] = d * gate[i]
				wantSums[i] = sums[i] + float64(wantDZ[i])
				wantGates[i] = gateSums[i] + float64(float32(wantDZ[i]*wantZ[i]))
			}
			first := [][]float32{w, m, v, z, x, dy}
			were := make([][]float32, len(first))
			for i, s := range first {
				were[i] = slices.Clone(s)
			}
			wereSums, wereGates := slices.Clone(sums), slices.Clone(gateSums)
			profiles(t, func(t *testing.T) {
				for i, s := range first {
					copy(s, were[i])
				}
				copy(sums, wereSums)
				copy(gateSums, wereGates)
				step.Apply(w, g, m, v)
				GatedAdd(x, x, z, bias, gate)
				GatedBackward(dy, dy, z, gate, sums, gateSums)
				for name, got := range map[string][2][]float32{
					"weights": {w, wantW}, "first moments": {m, wantM}, "second moments": {v, wantV},
					"gated input": {z, wantZ}, "gated sum": {x, wantY}, "gradient": {dy, wantDZ},
				} {
					if i := unequal(got[0], got[1]); i >= 0 {
						t.Errorf("%d values: %s differ at %d: %v, want %v", n, name, i, got[0][i], got[1][i])
					}
				}
				if !slices.Equal(sums, wantSums) || !slices.Equal(gateSums, wantGates) {
					t.Errorf("%d values: sums %v and %v, want %v and %v", n, sums, gateSums, wantSums, wantGates)
				}
			})
		}
	}
}

// doubles are guarded on one side.
func doubles(t *testing.T, n int, atEnd bool) []float64 {
	return unsafe.Slice((*float64)(unsafe.Pointer(unsafe.SliceData(guarded(t, 2*n, atEnd)))), n)
}

// unequal is the first index at which bits differ, -1 if there is none; one
// NaN is like another.
func unequal(got, want []float32) int {
	for i, w := range want {
		if math.Float32bits(got[i]) != math.Float32bits(w) && (got[i] == got[i] || w == w) {
			return i
		}
	}
	return -1
}
