package kernels

import "fmt"

// Sizes of blocks, in elements. A block of a stays in the second-level cache
// and one panel of b in the first; the results do not depend on them.
const (
	rowBlock  = 264 // rows of a that are packed at once; a multiple of tileRows
	colStrip  = 64  // columns of b that are packed at once for few rows of a
	wideStrip = 256 // the same for many rows
	termBlock = 384 // most terms of k
)

// panelLimit is the most values that are packed for all goroutines of a
// product, unless one panel alone has more. It is a variable for tests.
var panelLimit = 1 << 20

// Gemm computes c = alpha·op(a)·op(b) + beta·c, where op(a) has m rows and k
// columns, op(b) has k rows and n columns, and op is the transpose if transA
// or transB is set. The matrices are row-major with lda, ldb and ldc floats
// from one row to the next. With beta 0, what was in c does not matter. c
// must not overlap a or b. At most workers goroutines take part; 0 is as many
// as there are processors.
func Gemm(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int, workers int) {
	rowsA, colsA, rowsB, colsB := m, k, k, n
	if transA {
		rowsA, colsA = k, m
	}
	if transB {
		rowsB, colsB = n, k
	}
	check("c", m, n, c, ldc)
	if m == 0 || n == 0 {
		return
	}
	check("a", rowsA, colsA, a, lda)
	check("b", rowsB, colsB, b, ldb)
	g := product{
		m: m, n: n, k: k,
		a: operand{a, lda, transA}, b: operand{b, ldb, !transB}, c: c, ldc: ldc,
		alpha: alpha, beta: beta,
	}
	g.run(workers)
}

// check panics unless data can be a matrix of that shape.
func check(name string, rows, cols int, data []float32, ld int) {
	switch {
	case rows < 0 || cols < 0:
		panic(fmt.Sprintf("kernels: %s is %d x %d", name, rows, cols))
	case ld < max(1, cols):
		panic(fmt.Sprintf("kernels: rows of %s are %d apart and have %d columns", name, ld, cols))
	case rows > 0 && cols > 0 && len(data) < (rows-1)*ld+cols:
		panic(fmt.Sprintf("kernels: %s has %d values, too few for %d x %d with rows %d apart", name, len(data), rows, cols, ld))
	}
}

// product is one call of Gemm.
type product struct {
	m, n, k     int
	a, b        operand
	packed      []float32 // b as Pack leaves it, if that was done before
	c           []float32
	ldc         int
	alpha, beta float32
	bias        []float32 // what the chains of every row begin with, in place of beta·c, if beta is 0
}

// termsOf is the number of terms of a block of k.
func termsOf(k int) int {
	blocks := max(1, (k+termBlock-1)/termBlock)
	return (k + blocks - 1) / blocks
}

// ceil is the least multiple of unit that is n or more.
func ceil(n, unit int) int { return (n + unit - 1) / unit * unit }

// scale multiplies a block of c by beta where the chains begin with that, and
// reports whether there are no terms and all is done.
func (g *product) scale(i0, i1, j0, j1 int) bool {
	done := g.k == 0 || g.alpha == 0
	if g.beta == 1 || g.beta == 0 && !done {
		return done
	}
	for i := i0; i < i1; i++ {
		row := g.c[i*g.ldc+j0 : i*g.ldc+j1]
		switch {
		case g.beta != 0:
			scale(g.beta, row, row)
		case g.bias != nil:
			copy(row, g.bias[j0:j1])
		default:
			clear(row)
		}
	}
	return done
}

// rows are rows of values that are ld apart, or zeros if data is nil.
type rows struct {
	data []float32
	ld   int
}

func (r rows) from(i, j int) rows {
	if r.data != nil {
		r.data = r.data[i*r.ld+j:]
	}
	return r
}

// tiles computes mc rows from i on and nc columns from j on of a block of k
// terms, of which a are the rows and b the packed columns. first says that it
// is the first block.
func (g *product) tiles(a rows, b []float32, i, mc, j, nc, k int, first bool) {
	var edge [tileRows * tileCols]float32
	c := rows{g.c, g.ldc}.from(i, j)
	start := c
	if first && g.beta == 0 {
		start = rows{g.bias, 0}.from(0, j)
	}
	for jr, width := 0, 0; jr < nc; jr += width {
		width = tileWidth(nc - jr)
		panel, cols := b[jr*k:], nc-jr
		for ir, height, count := 0, 0, 0; ir < mc; ir += count * height {
			height = tileHeight(mc-ir, width)
			count = 1
			if cols >= width {
				count = (mc - ir) / height
			}
			a, start, c := a.from(ir, 0), start.from(ir, jr), c.from(ir, jr)
			if cols >= width {
				tile(count, height, width, k, a, panel, start, c)
				continue
			}
			// A tile that is narrower is computed beside c.
			beside := rows{edge[:], tileCols}
			if start.data != nil {
				for r := range height {
					copy(beside.from(r, 0).data, start.from(r, 0).data[:cols])
				}
				start = beside
			}
			tile(1, height, width, k, a, panel, start, beside)
			for r := range height {
				copy(c.data[r*c.ld:][:cols], beside.from(r, 0).data)
			}
		}
	}
}
