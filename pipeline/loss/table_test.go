package loss

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// value is what a table holds of two rows, with its derivative by the first,
// in float64 and by the definition alone.
func value(m measure, x, y []float32) (v float64, dx []float64) {
	dx = make([]float64, len(x))
	if m.product() {
		var xy, xx, yy float64
		for k, a := range x {
			b := float64(y[k])
			xy, xx, yy = xy+float64(a)*b, xx+float64(a)*float64(a), yy+b*b
		}
		lx, ly := 1.0, 1.0
		if m.distance == Cosine {
			lx, ly = math.Sqrt(xx), math.Sqrt(yy)
		}
		if lx*ly == 0 {
			return m.beta, dx
		}
		for k, a := range x {
			dx[k] = m.alpha * float64(y[k]) / (lx * ly)
			if m.distance == Cosine {
				dx[k] -= m.alpha * xy / (lx * ly) * float64(a) / xx
			}
		}
		return m.alpha*xy/(lx*ly) + m.beta, dx
	}
	var d float64
	for k, a := range x {
		diff := float64(a) - float64(y[k])
		if m.distance == Manhattan {
			d += math.Abs(diff)
			switch {
			case diff > 0:
				dx[k] = 1
			case diff < 0:
				dx[k] = -1
			}
		} else {
			d += diff * diff
			dx[k] = diff
		}
	}
	slope := 1.0
	if m.distance == Euclidean {
		d = math.Sqrt(d)
		slope = 0
		if d > 0 {
			slope = 1 / d
		}
	}
	v = d
	if m.nearness != 0 {
		v = m.nearness / (1 + d)
		slope *= -m.nearness / ((1 + d) * (1 + d))
	}
	for k := range dx {
		dx[k] *= slope
	}
	return v, dx
}

func drawn(rng *rand.Rand, rows, cols int, shift float64) nn.Mat {
	m := nn.Mat{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64() + shift)
	}
	return m
}

// TestTable: values and gradients of tables of many rows equal the definition
// in float64, with a gradient by all values and by a few, among rows far from
// the origin, near each other, equal and zero.
func TestTable(t *testing.T) {
	measures := []measure{
		distances(Cosine, ""), distances(Cosine, VariantQuaterion), distances(Euclidean, ""), distances(Manhattan, ""), distances(DotProduct, ""),
		similarities(Cosine, "", 20), similarities(Cosine, VariantQuaterion, 3), similarities(Euclidean, "", 2), similarities(Manhattan, "", 5),
	}
	for _, m := range measures {
		for _, self := range []bool{false, true} {
			for _, part := range []float64{1, 0.5, 0.02} {
				t.Run(fmt.Sprintf("%+v self %v part %v", m, self, part), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(5, 8))
					x, y := drawn(rng, 77, 33, 3), drawn(rng, 50, 33, 3)
					copy(x.Row(3), y.Row(4)) // equal
					for k, v := range y.Row(5) {
						x.Row(6)[k] = v + 1e-3*float32(k%3) // near
					}
					clear(x.Row(7))
					copy(x.Row(9), x.Row(8))
					tab := table{measure: m}
					if self {
						y = x
						tab.compareSelf(x)
					} else {
						tab.compare(x, y)
					}
					got := tab.fill()
					g := make([]float32, len(got.Data))
					dx, dy := make([]float64, len(x.Data)), make([]float64, len(y.Data))
					if self {
						dy = dx
					}
					for i := range x.Rows {
						for j := range y.Rows {
							want, byX := value(m, x.Row(i), y.Row(j))
							_, byY := value(m, y.Row(j), x.Row(i))
							v := float64(got.Data[i*y.Rows+j])
							if !(math.Abs(v-want) <= 1e-6*max(1, math.Abs(want), math.Abs(m.alpha))) || !(math.Abs(tab.at(i, j)-want) <= 1e-6*max(1, math.Abs(want), math.Abs(m.alpha))) {
								t.Fatalf("[%d,%d] is %v and %v, want %v", i, j, v, tab.at(i, j), want)
							}
							if rng.Float64() < part {
								g[i*y.Rows+j] = float32(rng.NormFloat64())
							}
							for k := range byX {
								dx[i*33+k] += 0.7 * float64(g[i*y.Rows+j]) * byX[k]
								dy[j*33+k] += 0.7 * float64(g[i*y.Rows+j]) * byY[k]
							}
						}
					}
					copy(got.Data, g)
					gx, gy := tab.backward(0.7)
					close(t, "dx", gx.Dense().Float32s(), dx)
					if self {
						if gy != nil {
							t.Error("one matrix has two gradients")
						}
						return
					}
					close(t, "dy", gy.Dense().Float32s(), dy)
					cells := []cell{}
					for k, v := range g {
						cells = append(cells, cell{int32(k / y.Rows), int32(k % y.Rows), v})
					}
					gx, gy = tab.backwardAt(cells, 0.7)
					close(t, "dx by cells", gx.Dense().Float32s(), dx)
					close(t, "dy by cells", gy.Dense().Float32s(), dy)
					tab.constant = true
					if gx, gy = tab.backwardAt(cells[:1], 1); gx == nil || gy != nil {
						t.Error("a constant has a gradient")
					}
				})
			}
		}
	}
}

// TestSameBitsOnAnyProcessors: results do not depend on GOMAXPROCS.
func TestSameBitsOnAnyProcessors(t *testing.T) {
	each(t, func(t *testing.T, c Config, b *Batch) {
		const n, dim = 140, 16
		rng := rand.New(rand.NewPCG(4, 4))
		big := &Batch{A: nn.Wrap(drawn(rng, n, dim, 0.2))}
		for i := range n {
			if c.Kind() == Groups {
				big.Labels = append(big.Labels, int32(rng.IntN(12)))
			} else {
				big.Subgroups = append(big.Subgroups, int32(i%5))
			}
			big.AIDs = append(big.AIDs, int64(rng.IntN(150)))
		}
		if c.Kind() == Pairs {
			big.B = nn.Wrap(drawn(rng, n, dim, 0.2))
			big.BIDs = slices.Clone(big.AIDs)
			slices.Reverse(big.BIDs)
		}
		var want []byte
		for i, procs := range []int{1, 2, 5} {
			old := runtime.GOMAXPROCS(procs)
			l, err := c.New(dim, 12, rand.New(rand.NewPCG(0, 0)))
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			add := func(v []float32) {
				for _, x := range v {
					got = binary.LittleEndian.AppendUint32(got, math.Float32bits(x))
				}
			}
			for range 2 {
				r, err := l.Compute(big, true)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range []*tensor.Dense{r.DA, r.DB} {
					if d != nil {
						add(d.Float32s())
					}
				}
				for _, p := range l.Parameters() {
					add(p.Grads())
				}
				got = binary.LittleEndian.AppendUint64(got, math.Float64bits(r.Value))
			}
			runtime.GOMAXPROCS(old)
			if i == 0 {
				want = got
			} else if !bytes.Equal(got, want) {
				t.Fatalf("%d processors give other bits than one", procs)
			}
		}
	})
}
