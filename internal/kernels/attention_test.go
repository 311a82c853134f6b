package kernels

import (
	"math/rand/v2"
	"testing"
)

// TestAttention: a head has the bits of two products and a softmax between
// them, for any number of rows and values, with and without a bias, and nothing
// outside the operands is touched.
func TestAttention(t *testing.T) {
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(11, 12))
		var a Attention
		for _, s := range [][2]int{{0, 4}, {1, 16}, {2, 1}, {5, 24}, {15, 32}, {16, 32}, {21, 32}, {33, 64}, {47, 40}, {130, 20}, {750, 3}} {
			n, d := s[0], s[1]
			if raceOn && n > 200 {
				continue
			}
			for _, atEnd := range []bool{true, false} {
				for _, biased := range []bool{true, false} {
					place := func(x matrix) matrix {
						data := guarded(t, len(x.data), atEnd)
						copy(data, x.data)
						x.data = data
						return x
					}
					q, k, v := place(newMatrix(r, n, d, 7)), place(newMatrix(r, n, d, 7)), place(newMatrix(r, n, d, 7))
					out := place(newMatrix(r, n, d, 2))
					want, scores := out.clone(), newMatrix(r, n, n, 0)
					var bias []float32
					beta := float32(0)
					if biased {
						bias, beta = guarded(t, max(0, 2*n-1), atEnd), 1
						copy(bias, values(r, len(bias)))
						for i := range n {
							for j := range n {
								scores.data[i*n+j] = bias[n-1+j-i]
							}
						}
					}
					scores.gemm(false, true, d, 1, q.clone(), k.clone(), beta, 1)
					for i := range n {
						row := scores.data[i*n : (i+1)*n]
						Softmax(row, row)
					}
					want.gemm(false, false, n, 1, scores, v.clone(), 0, 1)
					a.Head(n, d, q.data, k.data, v.data, q.ld, bias, out.data, out.ld)
					if !sameBits(out.data, want.data) {
						t.Fatalf("%d rows of %d values, bias %v: other bits", n, d, biased)
					}
				}
			}
		}
	})
}

func TestAttentionRefuses(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	x := make([]float32, 11)
	new(Attention).Head(3, 4, x, x, x, 4, nil, x, 4)
}
