package kernels

// scoreBlock bounds the scores that are in memory at once.
const scoreBlock = 1 << 19

// Attention computes attention in heads. Its buffers are kept from call to
// call and grow to the largest one; an Attention serves one call at a time.
// The zero Attention is ready.
type Attention struct{ keys, values, scores []float32 }

// Head writes softmax(q·kᵀ + bias)·v of one head to out, n rows of d values.
// Rows of q, k and v are ld floats apart, those of out ldo. bias has n-1+j-i
// as the place of what is added for query i and key j; nil is none. The bits
// are those of [Gemm], [Softmax] of every row, and Gemm. out must not overlap
// the others.
func (a *Attention) Head(n, d int, q, k, v []float32, ld int, bias []float32, out []float32, ldo int) {
	check("q", n, d, q, ld)
	check("k", n, d, k, ld)
	check("v", n, d, v, ld)
	check("out", n, d, out, ldo)
	if n == 0 || d == 0 {
		return
	}
	if bias != nil {
		check("bias", 1, 2*n-1, bias, 2*n-1)
	}
	// Rows of scores end at a whole tile, and what is behind them is not read.
	wide := ceil(n, tileCols)
	most := min(n, max(1, scoreBlock/wide))
	a.keys, a.values = grown(a.keys, wide*d), grown(a.values, n*ceil(d, tileCols))
	a.scores = grown(a.scores, most*wide)
	operand{data: k, ld: ld}.panels(a.keys, 0, n, 0, d)
	operand{data: v, ld: ld, kMajor: true}.panels(a.values, 0, d, 0, n)
	scores := product{c: a.scores, ldc: wide}
	result := product{c: out, ldc: ldo}
	for i := 0; i < n; i += most {
		count := min(most, n-i)
		if bias != nil {
			scores.beta = 1
			for r := range count {
				copy(a.scores[r*wide:][:n], bias[n-1-i-r:])
			}
		}
		scores.tiles(rows{q, ld}.from(i, 0), a.keys, 0, count, 0, wide, d, true)
		for r := range count {
			row := a.scores[r*wide:][:n]
			Softmax(row, row)
		}
		result.tiles(rows{a.scores, wide}, a.values, i, count, 0, d, n, true)
	}
}
