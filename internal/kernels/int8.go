package kernels

import (
	"fmt"
	"math"
)

// PackedInt8 is the second operand of products in 8 bits: a matrix whose
// columns are rounded to whole numbers times a scale for each column. The sizes
// of the numbers of terms 2p and 2p+1 add up to at most 128. It is safe for
// concurrent use.
//
// That bound is what makes every path agree: AVX2 sums the products of two
// neighbouring terms with bytes of 0 to 255 in 16 bits, and 255·128 < 2^15. A
// bound for each number, 64, would make the steps of most columns half as
// large again.
type PackedInt8 struct {
	k, n   int
	panels []int8 // 16 columns a panel; four terms of a column are neighbours
	scales []float32
	sums   []int32 // of the columns
}

// int8Pair is the most that the sizes of two neighbouring terms add up to,
// and int8Terms the most terms of which the sum fits into 32 bits, also where
// all bytes are on one side of their zero.
const (
	int8Pair  = 128
	int8Terms = math.MaxInt32 / (255 * int8Pair / 2) / 2
)

// PackInt8 rounds op(b), a matrix of k rows and n columns, and packs it, as
// [Pack] does. Column j gets the scale max(|b[2p,j]| + |b[2p+1,j]|)/127, and
// its values the nearest multiples of it, ties to even. Columns must be finite,
// and k at most 65,000; otherwise PackInt8 returns an error.
func PackInt8(trans bool, k, n int, b []float32, ld int) (*PackedInt8, error) {
	rows, cols := k, n
	if trans {
		rows, cols = n, k
	}
	check("b", rows, cols, b, ld)
	if k > int8Terms {
		return nil, fmt.Errorf("a product in 8 bits of %d terms, more than %d, may not fit into 32 bits", k, int8Terms)
	}
	wide, steps := ceil(n, tileCols), (k+3)/4
	q := &PackedInt8{k: k, n: n, panels: make([]int8, wide*steps*4), scales: make([]float32, wide), sums: make([]int32, wide)}
	if k == 0 {
		return q, nil
	}
	column := make([]float64, steps*4)
	for j := range n {
		for p := range k {
			at := p*ld + j
			if trans {
				at = j*ld + p
			}
			column[p] = float64(b[at])
			if math.IsNaN(column[p]) || math.IsInf(column[p], 0) {
				return nil, fmt.Errorf("value %d of column %d is %v", p, j, b[at])
			}
		}
		q.pack(j, column, q.panels[j/tileCols*tileCols*steps*4+j%tileCols*4:])
	}
	return q, nil
}

// pack rounds column j to its place in a panel.
func (b *PackedInt8) pack(j int, column []float64, panel []int8) {
	top := 0.0
	for p := 0; p < len(column); p += 2 {
		top = max(top, math.Abs(column[p])+math.Abs(column[p+1]))
	}
	scale := float32(top / (int8Pair - 1)) // rounding may add 1 to a pair
	if scale == 0 {
		return // so small that it counts as zero
	}
	b.scales[j] = scale
	for p, left := 0, 0.0; p < len(column); p++ {
		if p%2 == 0 {
			left = int8Pair
		}
		// The bounds only count where the scale is denormal, and so too coarse.
		v := math.RoundToEven(column[p] / float64(scale))
		v = max(-left, -127, min(left, 127, v))
		left -= math.Abs(v)
		panel[p/4*tileCols*4+p%4] = int8(v)
		b.sums[j] += int32(v)
	}
}

// Rows is the number k of rows of the matrix.
func (b *PackedInt8) Rows() int { return b.k }

// Cols is the number n of its columns.
func (b *PackedInt8) Cols() int { return b.n }

// GemmInt8 computes c = a·b approximately, where a has m rows. Every row of a
// is rounded to 256 steps between its least and its greatest value and 0:
//
//	s = (high - low)/255, z = round(-low/s), q[p] = round(a[p]/s) + z
//	c[j] = (Σ q[p]·b[p,j] - z·Σ b[p,j])·s·scale[j]
//
// with rounding to even, sums in whole numbers, and the two multiplications
// in float32 in that order. With add this is added to c, rounded once more;
// otherwise what was in c does not matter. All paths of this package, the portable one too,
// give the same bits. A row with a NaN or an infinity gives NaN; one whose
// range is below 1e-36 counts as zero. c must not overlap a. At most workers
// goroutines take part; 0 is as many as there are processors.
func GemmInt8(m int, a []float32, lda int, b *PackedInt8, add bool, c []float32, ldc int, workers int) {
	check("c", m, b.n, c, ldc)
	if m == 0 || b.n == 0 {
		return
	}
	check("a", m, b.k, a, lda)
	n := take(workersFor(m, b.n, b.k/2, workers))
	defer func() { busy.Add(int64(-n)) }()
	w := hire()
	defer w.dismiss()
	w.bytes = byteProduct{m: m, a: a, lda: lda, b: b, add: add, c: c, ldc: ldc}
	w.run(&w.bytes, n, w.bytes.room())
}

// byteProduct is a product in 8 bits as a task: rows are handed out.
type byteProduct struct {
	m   int
	a   []float32
	lda int
	b   *PackedInt8
	add bool
	c   []float32
	ldc int
}

// room is the room of a block of rows.
func (g *byteProduct) room() room {
	return room{bytes: min(g.m, rowBlock) * ceil(g.b.k, 4), rows: min(g.m, rowBlock)}
}

// units implements task.
func (g *byteProduct) units() int { return 0 }

// prepare implements task.
func (g *byteProduct) prepare(int) {}

// extent implements task.
func (g *byteProduct) extent() (n, grain int) { return g.m, byteTileRows }

// part implements task.
func (g *byteProduct) part(s *buffers, lo, hi int) {
	steps := (g.b.k + 3) / 4
	for i := lo; i < hi; i += rowBlock {
		mc := min(rowBlock, hi-i)
		for r := range mc {
			row := g.a[(i+r)*g.lda : (i+r)*g.lda+g.b.k]
			s.scales[r], s.zeros[r] = quantizeRow(s.bytes[r*steps*4:(r+1)*steps*4], row)
		}
		g.tiles(s, i, mc, steps)
	}
}

// tiles multiplies mc rounded rows with all columns.
func (g *byteProduct) tiles(s *buffers, i, mc, steps int) {
	var edge [byteTileRows * tileCols]float32
	for j, width := 0, 0; j < g.b.n; j += width {
		width = byteTileWidth(g.b.n - j)
		panel, scales, sums := g.b.panels[j*steps*4:(j+width)*steps*4], g.b.scales[j:j+width], g.b.sums[j:j+width]
		for r, rows := 0, 0; r < mc; r += rows {
			rows = byteTileHeight(mc-r, width)
			c, ldc, cols := g.c[(i+r)*g.ldc+j:], g.ldc, g.b.n-j
			narrow := cols < width
			if narrow {
				// What is narrower than a tile is computed beside c.
				for e := range rows {
					copy(edge[e*tileCols:], c[e*ldc:e*ldc+cols])
				}
				c, ldc = edge[:], tileCols
			}
			byteTile(rows, width, steps, s.bytes[r*steps*4:], panel, s.scales[r:r+rows], s.zeros[r:r+rows], scales, sums, c, ldc, g.add)
			for e := 0; narrow && e < rows; e++ {
				copy(g.c[(i+r+e)*g.ldc+j:][:cols], edge[e*tileCols:])
			}
		}
	}
}

// quantizeRow rounds a row, and fills dst, which may be longer, up with
// zeros.
func quantizeRow(dst []uint8, row []float32) (scale float32, zero int32) {
	n := len(row) &^ 31
	low, high, odd := spread(row[:n])
	for _, v := range row[n:] {
		low, high, odd = min(low, v), max(high, v), odd+(v-v)
	}
	if odd != 0 || high-low > math.MaxFloat32 {
		clear(dst)
		return float32(math.NaN()), 0
	}
	inverse := 255 / (high - low)
	if inverse > math.MaxFloat32 {
		clear(dst)
		return 0, 0
	}
	zero = int32(math.RoundToEven(float64(-low * inverse)))
	quantize(dst[:n], row[:n], inverse, zero)
	for p, v := range row[n:] {
		dst[n+p] = toByte(v, inverse, zero)
	}
	clear(dst[len(row):])
	return (high - low) / 255, zero
}

func toByte(v, inverse float32, zero int32) uint8 {
	return uint8(max(0, min(255, int32(math.RoundToEven(float64(v*inverse)))+zero)))
}

func spreadGo(x []float32) (low, high, odd float32) {
	for _, v := range x {
		low, high, odd = min(low, v), max(high, v), odd+(v-v)
	}
	return low, high, odd
}

func quantizeGo(dst []uint8, x []float32, inverse float32, zero int32) {
	for i, v := range x {
		dst[i] = toByte(v, inverse, zero)
	}
}

// byteTileGo is the portable tile.
func byteTileGo(rows, steps int, a []uint8, b []int8, scales []float32, zeros []int32, colScales []float32, colSums []int32, c []float32, ldc int, add bool) {
	for r := range rows {
		row := a[r*steps*4 : (r+1)*steps*4]
		var acc [tileCols]int32
		for t := range steps {
			x := row[t*4 : t*4+4]
			y := b[t*tileCols*4 : (t+1)*tileCols*4]
			for j := range acc {
				z := y[j*4 : j*4+4]
				acc[j] += int32(x[0])*int32(z[0]) + int32(x[1])*int32(z[1]) + int32(x[2])*int32(z[2]) + int32(x[3])*int32(z[3])
			}
		}
		out := c[r*ldc : r*ldc+tileCols]
		for j, v := range acc {
			x := float32(float32(float32(v-zeros[r]*colSums[j])*scales[r]) * colScales[j])
			if add {
				x += out[j]
			}
			out[j] = x
		}
	}
}
