package kernels

// Packed is the second operand of products, laid out as they read it: what
// is multiplied many times, such as the weights of an encoder, need be packed
// only once. It is safe for concurrent use.
type Packed struct {
	k, n   int
	panels []float32
}

// Pack packs op(b), a matrix of k rows and n columns, where op is the
// transpose if trans is set and ld the number of floats from one row of b to
// the next. It keeps no reference to b.
func Pack(trans bool, k, n int, b []float32, ld int) *Packed {
	rows, cols := k, n
	if trans {
		rows, cols = n, k
	}
	check("b", rows, cols, b, ld)
	g := sharing{product: product{n: n, k: k, b: operand{b, ld, !trans}, alpha: 1}, hi: n}
	g.panels = make([]float32, ceil(n, tileCols)*k)
	adviseHuge(g.panels)
	for unit := range g.units() {
		g.prepare(unit)
	}
	return &Packed{k, n, g.panels}
}

// Rows is the number k of rows of the matrix.
func (b *Packed) Rows() int { return b.k }

// Cols is the number n of its columns.
func (b *Packed) Cols() int { return b.n }

// GemmPacked is [Gemm] with an operand b that was packed before: c =
// alpha·op(a)·b + beta·c, with the same bits.
func GemmPacked(transA bool, m int, alpha float32, a []float32, lda int, b *Packed, beta float32, c []float32, ldc int, workers int) {
	rows, cols := m, b.k
	if transA {
		rows, cols = cols, rows
	}
	check("c", m, b.n, c, ldc)
	if m == 0 || b.n == 0 {
		return
	}
	check("a", rows, cols, a, lda)
	g := product{
		m: m, n: b.n, k: b.k, a: operand{a, lda, transA}, packed: b.panels, c: c, ldc: ldc,
		alpha: alpha, beta: beta,
	}
	g.run(workers)
}

// Affine computes y = x·w + bias, as [GemmPacked]: the chain of y[i,j] begins
// with bias[j], or with 0 if bias is nil. y must not overlap bias either.
func Affine(m int, x []float32, ldx int, w *Packed, bias []float32, y []float32, ldy int, workers int) {
	check("y", m, w.n, y, ldy)
	if m == 0 || w.n == 0 {
		return
	}
	check("x", m, w.k, x, ldx)
	if bias != nil {
		check("bias", 1, w.n, bias, w.n)
	}
	g := product{m: m, n: w.n, k: w.k, a: operand{x, ldx, false}, packed: w.panels, c: y, ldc: ldy, alpha: 1, bias: bias}
	g.run(workers)
}
