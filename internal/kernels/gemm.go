package kernels

import "fmt"

// Sizes of blocks, in elements. A block of a stays in the second-level cache
// and one panel of b in the first; the results do not depend on them.
const (
	rowBlock  = 192  // rows of a; a multiple of tileRows
	colBlock  = 1024 // columns of b; a multiple of tileCols
	colStrip  = 64   // columns of b if all rows of a fit into one block
	termBlock = 384  // most terms of k
)

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
	c           []float32
	ldc         int
	alpha, beta float32
}

// buffers are the packed blocks of one goroutine. They grow up to the sizes
// of the largest blocks.
type buffers struct{ a, b []float32 }

// fit makes room for the blocks of rows rows and cols columns of c.
func (s *buffers) fit(rows, cols, k int) {
	width, terms := stripe(rows), termsOf(k)
	s.a = grown(s.a, ceil(min(rows, rowBlock), tileRows)*terms)
	s.b = grown(s.b, ceil(min(cols, width), tileCols)*terms)
}

// stripe is the number of columns of b that are packed at once for rows rows
// of a.
func stripe(rows int) int {
	if rows <= rowBlock {
		return colStrip
	}
	return colBlock
}

// termsOf is the number of terms of a block of k.
func termsOf(k int) int {
	blocks := max(1, (k+termBlock-1)/termBlock)
	return (k + blocks - 1) / blocks
}

// ceil is the least multiple of unit that is n or more.
func ceil(n, unit int) int { return (n + unit - 1) / unit * unit }

func grown(x []float32, n int) []float32 {
	if n > len(x) {
		return make([]float32, n)
	}
	return x
}

// block computes the rows [i0, i1) and columns [j0, j1) of c, with buffers
// that fit.
func (g *product) block(s *buffers, i0, i1, j0, j1 int) {
	if i0 == i1 || j0 == j1 || g.scale(i0, i1, j0, j1) {
		return
	}
	terms, cols, whole := termsOf(g.k), stripe(i1-i0), i1-i0 <= rowBlock
	for p := 0; p < g.k; p += terms {
		k := min(terms, g.k-p)
		if whole {
			g.a.panels(s.a, tileRows, i0, i1-i0, p, k, g.alpha)
		}
		for j := j0; j < j1; j += cols {
			nc := min(cols, j1-j)
			g.b.panels(s.b, tileCols, j, nc, p, k, 1)
			for i := i0; i < i1; i += rowBlock {
				mc := min(rowBlock, i1-i)
				if !whole {
					g.a.panels(s.a, tileRows, i, mc, p, k, g.alpha)
				}
				g.tiles(s, i, mc, j, nc, k, p == 0 && g.beta == 0)
			}
		}
	}
}

// scale multiplies a block of c by beta where the chains do not start at
// zero, and reports whether that is all there is to do.
func (g *product) scale(i0, i1, j0, j1 int) bool {
	done := g.k == 0 || g.alpha == 0
	if g.beta == 1 || g.beta == 0 && !done {
		return done
	}
	for i := i0; i < i1; i++ {
		row := g.c[i*g.ldc+j0 : i*g.ldc+j1]
		if g.beta == 0 {
			clear(row)
			continue
		}
		for j := range row {
			row[j] *= g.beta
		}
	}
	return done
}

// tiles adds the product of the packed blocks to mc rows of c from i on and
// nc columns from j on.
func (g *product) tiles(s *buffers, i, mc, j, nc, k int, zero bool) {
	var edge [tileRows * tileCols]float32
	for jr := 0; jr < nc; jr += tileCols {
		b, cols := s.b[jr*k:(jr+tileCols)*k], min(tileCols, nc-jr)
		for ir := 0; ir < mc; ir += tileRows {
			a, rows := s.a[ir*k:(ir+tileRows)*k], min(tileRows, mc-ir)
			c := g.c[(i+ir)*g.ldc+j+jr:]
			if cols == tileCols {
				tile(rows, k, a, b, c, g.ldc, zero)
				continue
			}
			// A tile that is narrower is computed beside c.
			for r := range rows {
				copy(edge[r*tileCols:(r+1)*tileCols], c[r*g.ldc:r*g.ldc+cols])
			}
			tile(rows, k, a, b, edge[:], tileCols, zero)
			for r := range rows {
				copy(c[r*g.ldc:r*g.ldc+cols], edge[r*tileCols:])
			}
		}
	}
}
