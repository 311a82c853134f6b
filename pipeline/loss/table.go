package loss

import (
	"math"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// table holds a measure of all rows x_i of one matrix with all rows y_j of
// another, and brings gradients by its values back to x and y:
//
//	compare or compareSelf, then fill and backward, or at and backwardAt
//
// Memory for n·k values: n·k float32, and as much again for distances that
// are no products. Euclidean distances come from a product of the matrices,
// less the mean row; where that would lose digits, below 0.3 of the rows'
// lengths or so, from the rows' differences.
type table struct {
	measure
	x, y nn.Mat // as they were given
	self bool   // y is x
	// constant y has no gradient.
	constant bool

	px, py       nn.Mat // factors of the product: unit rows, or rows less their mean
	bx, by, mean nn.Buffer
	invx, invy   []float32 // inverse lengths of cosine's rows
	sqx, sqy     []float64 // squared lengths of Euclidean's rows
	m, kept      nn.Buffer // the values, then their gradient; distances
	dx, dy       nn.Buffer
	sums         []float64
	colSums      []float32
	summing      nn.Sums
	single       []cell
	counts       []int
}

// cell is one value of a table, or its gradient.
type cell struct {
	i, j int32
	g    float32
}

// compare takes the matrices, of one number of columns; they are borrowed
// until the gradients are there.
func (t *table) compare(x, y nn.Mat) {
	t.x, t.y, t.self = x, y, false
	t.prepare()
}

// compareSelf compares the rows of one matrix with each other.
func (t *table) compareSelf(x nn.Mat) {
	t.x, t.y, t.self = x, x, true
	t.prepare()
}

func (t *table) prepare() {
	t.px, t.py = t.x, t.y
	if t.distance != Cosine {
		return
	}
	t.px, t.invx = t.bx.Mat(t.x.Rows, t.x.Cols), fit(t.invx, t.x.Rows)
	nn.Normalize(t.px, t.x, t.invx)
	if t.py = t.px; !t.self {
		t.py, t.invy = t.by.Mat(t.y.Rows, t.y.Cols), fit(t.invy, t.y.Rows)
		nn.Normalize(t.py, t.y, t.invy)
	}
}

// fit returns s, or new memory where it is too small, with n values.
func fit[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// centre takes the mean row off all rows: distances stay, and products of
// rows that all lie on one side of the origin keep more of their digits.
func (t *table) centre() {
	cols := t.x.Cols
	sums := fit(t.sums, cols)
	t.sums = sums
	clear(sums)
	add := func(m nn.Mat) {
		for i := range m.Rows {
			for k, v := range m.Row(i) {
				sums[k] += float64(v)
			}
		}
	}
	add(t.x)
	rows := t.x.Rows
	if !t.self {
		add(t.y)
		rows += t.y.Rows
	}
	mean := t.mean.Mat(1, cols).Data
	for k, s := range sums {
		mean[k] = float32(s / float64(rows))
	}
	less := func(dst, src nn.Mat, squares []float64) {
		nn.Parallel(src.Rows, 2*cols, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				row := dst.Row(i)
				kernels.Sub(row, src.Row(i), mean)
				squares[i] = kernels.Dot(row, row)
			}
		})
	}
	t.px, t.sqx = t.bx.Mat(t.x.Rows, cols), fit(t.sqx, t.x.Rows)
	less(t.px, t.x, t.sqx)
	if t.py = t.px; !t.self {
		t.py, t.sqy = t.by.Mat(t.y.Rows, cols), fit(t.sqy, t.y.Rows)
		less(t.py, t.y, t.sqy)
	}
}

// at is one value, in float64.
func (t *table) at(i, j int) float64 {
	if t.product() {
		return t.alpha*kernels.Dot(t.px.Row(i), t.py.Row(j)) + t.beta
	}
	return t.of(t.between(t.x.Row(i), t.y.Row(j)))
}

// fill returns all values, [x's rows, y's rows], for the caller to use and to
// replace by their gradient.
func (t *table) fill() nn.Mat {
	m := t.m.Mat(t.x.Rows, t.y.Rows)
	switch t.distance {
	case Cosine, DotProduct:
		nn.Gemm(nn.AsIs, nn.Transposed, float32(t.alpha), t.px, t.py, 0, m)
		if t.beta != 0 {
			nn.AddScalar(m, float32(t.beta))
		}
		return m
	case Euclidean:
		t.centre()
		nn.Gemm(nn.AsIs, nn.Transposed, -2, t.px, t.py, 0, m)
		nn.Parallel(m.Rows, 4*m.Cols, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				row := m.Row(i)
				for j, v := range row {
					row[j] = float32(t.euclidean(i, j, float64(v)))
				}
			}
		})
	default:
		t.manhattan(m)
	}
	if t.distance == Euclidean || t.nearness != 0 {
		copy(t.kept.Mat(m.Rows, m.Cols).Data, m.Data)
	}
	if t.nearness != 0 {
		nn.Parallel(m.Rows, 4*m.Cols, func(lo, hi int) {
			for k, d := range m.Data[lo*m.Cols : hi*m.Cols] {
				m.Data[lo*m.Cols+k] = float32(t.of(float64(d)))
			}
		})
	}
	return m
}

// nearby is the part of the rows' squared lengths below which a squared
// distance is taken from the rows' differences.
const nearby = 0.1

// euclidean is the distance of x_i and y_j, of whose product v is -2 times.
func (t *table) euclidean(i, j int, v float64) float64 {
	if t.self && i == j {
		return v * 0 // NaN stays NaN
	}
	lengths := t.lengths(i, j)
	if v += lengths; v < nearby*lengths {
		v = squares(t.x.Row(i), t.y.Row(j), 0)
	}
	return math.Sqrt(v)
}

// lengths are the squared lengths of two centred rows together.
func (t *table) lengths(i, j int) float64 {
	if t.self {
		return t.sqx[i] + t.sqx[j]
	}
	return t.sqx[i] + t.sqy[j]
}

// manhattan fills m.
func (t *table) manhattan(m nn.Mat) {
	if !t.self {
		nn.Parallel(m.Rows, m.Cols*t.x.Cols, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				for j := range m.Cols {
					m.Data[i*m.Cols+j] = float32(manhattan(t.x.Row(i), t.y.Row(j), 0))
				}
			}
		})
		return
	}
	n := m.Rows
	half := func(i int) {
		for j := i; j < n; j++ {
			d := float32(manhattan(t.x.Row(i), t.x.Row(j), 0))
			m.Data[i*n+j], m.Data[j*n+i] = d, d
		}
	}
	// A long row goes with a short one, so that ranges are of one cost.
	nn.Parallel((n+1)/2, n*t.x.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			half(i)
			if k := n - 1 - i; k > i {
				half(k)
			}
		}
	})
}

// backward takes the gradient by the values that stands in fill's matrix,
// times factor, and returns those by x and y. With compareSelf dx is all; a
// constant y has none. Both are valid until the next call.
func (t *table) backward(factor float64) (dx, dy *nn.Buffer) {
	g := t.m.Mat(t.x.Rows, t.y.Rows)
	if t.nearness != 0 {
		t.bySlope(g)
	}
	few := len(g.Data) / 16 // where single steps are faster than a product
	n := t.count(g)
	switch {
	case n <= few:
		t.single = t.single[:0]
		for i := range g.Rows {
			for j, v := range g.Row(i) {
				if v != 0 {
					t.single = append(t.single, cell{int32(i), int32(j), v})
				}
			}
		}
		return t.cells(t.single, factor)
	case t.distance == Manhattan:
		t.symmetric(g)
		t.signs(g, float32(factor))
		return t.gradients()
	case t.distance == Euclidean:
		t.overDistance(g, factor)
		t.symmetric(g)
		t.differences(g)
		t.addCells(t.single, 1)
		return t.gradients()
	}
	t.symmetric(g)
	alpha := float32(t.alpha * factor)
	nn.Gemm(nn.AsIs, nn.AsIs, alpha, g, t.py, 0, t.dx.Mat(t.x.Rows, t.x.Cols))
	if t.both() {
		nn.Gemm(nn.Transposed, nn.AsIs, alpha, g, t.px, 0, t.dy.Mat(t.y.Rows, t.y.Cols))
	}
	return t.normalized()
}

// both reports whether y has a gradient of its own.
func (t *table) both() bool { return !t.self && !t.constant }

// gradients are the buffers of the gradients by x and y.
func (t *table) gradients() (dx, dy *nn.Buffer) {
	if t.both() {
		return &t.dx, &t.dy
	}
	return &t.dx, nil
}

// bySlope turns the gradient by a nearness into that by the distance.
func (t *table) bySlope(g nn.Mat) {
	d := t.kept.Mat(g.Rows, g.Cols).Data
	nn.Parallel(g.Rows, 4*g.Cols, func(lo, hi int) {
		for k := lo * g.Cols; k < hi*g.Cols; k++ {
			if g.Data[k] != 0 {
				g.Data[k] *= float32(t.slope(float64(d[k])))
			}
		}
	})
}

// count is the number of values that are not 0.
func (t *table) count(g nn.Mat) (n int) {
	t.counts = fit(t.counts, g.Rows)
	nn.Parallel(g.Rows, g.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			c := 0
			for _, v := range g.Row(i) {
				if v != 0 {
					c++
				}
			}
			t.counts[i] = c
		}
	})
	for _, c := range t.counts {
		n += c
	}
	return n
}

// cells is backward for a gradient by a few values, times factor; without a
// nearness or with it already in the gradient. It changes the cells.
func (t *table) cells(cells []cell, factor float64) (dx, dy *nn.Buffer) {
	clear(t.dx.Mat(t.x.Rows, t.x.Cols).Data)
	if t.both() {
		clear(t.dy.Mat(t.y.Rows, t.y.Cols).Data)
	}
	if t.product() {
		t.addCells(cells, float32(t.alpha*factor))
		return t.normalized()
	}
	if t.distance == Euclidean {
		for n, c := range cells {
			if d := t.between(t.x.Row(int(c.i)), t.y.Row(int(c.j))); d == 0 {
				cells[n].g = 0
			} else {
				cells[n].g = float32(float64(c.g) / d)
			}
		}
	}
	t.addCells(cells, float32(factor))
	return t.gradients()
}

// backwardAt is backward for the gradient by the values of at for those
// cells, which it changes.
func (t *table) backwardAt(cells []cell, factor float64) (dx, dy *nn.Buffer) {
	if t.nearness != 0 {
		for n, c := range cells {
			d := t.between(t.x.Row(int(c.i)), t.y.Row(int(c.j)))
			cells[n].g = float32(float64(c.g) * t.slope(d))
		}
	}
	return t.cells(cells, factor)
}

// addCells adds what single values give: for products the other factor, for
// Euclidean differences, for Manhattan their signs, times the cell's g and
// factor.
func (t *table) addCells(cells []cell, factor float32) {
	if len(cells) == 0 {
		return
	}
	dx, dy := t.dx.Mat(t.x.Rows, t.x.Cols), nn.Mat{}
	if t.both() {
		dy = t.dy.Mat(t.y.Rows, t.y.Cols)
	} else if t.self {
		dy = dx
	}
	// Cut by columns, no two goroutines write to one place.
	nn.Parallel(dx.Cols, 2*len(cells), func(lo, hi int) {
		for _, c := range cells {
			w := c.g * factor
			if w == 0 {
				continue
			}
			di := dx.Row(int(c.i))[lo:hi]
			var dj []float32
			if dy.Data != nil {
				dj = dy.Row(int(c.j))[lo:hi]
			}
			if t.product() {
				kernels.Axpy(w, t.py.Row(int(c.j))[lo:hi], di)
				if dj != nil {
					kernels.Axpy(w, t.px.Row(int(c.i))[lo:hi], dj)
				}
				continue
			}
			x, y := t.x.Row(int(c.i))[lo:hi], t.y.Row(int(c.j))[lo:hi]
			for k, v := range x {
				d := float64(v) - float64(y[k]) + t.eps
				s := w
				switch {
				case t.distance == Euclidean:
					s = float32(d * float64(w))
				case d < 0:
					s = -w
				case d == 0:
					s = 0
				}
				di[k] += s
				if dj != nil {
					dj[k] -= s
				}
			}
		}
	})
}

// normalized are the gradients by x and y from those by their unit rows.
func (t *table) normalized() (dx, dy *nn.Buffer) {
	if t.distance == Cosine {
		nn.NormalizeBackward(t.dx.Mat(t.x.Rows, t.x.Cols), t.px, t.invx)
		if t.both() {
			nn.NormalizeBackward(t.dy.Mat(t.y.Rows, t.y.Cols), t.py, t.invy)
		}
	}
	return t.gradients()
}

// symmetric replaces g by g + gᵀ if x is compared with itself: what x_i gets
// as a row and as a column is then one product.
func (t *table) symmetric(g nn.Mat) {
	if !t.self {
		return
	}
	const tile = 32
	n := g.Rows
	add := func(from int) { // the rows from there, right of the diagonal
		to := min(from+tile, n)
		for j0 := from; j0 < n; j0 += tile {
			for i := from; i < to; i++ {
				for j := max(i, j0); j < min(j0+tile, n); j++ {
					v := g.Data[i*n+j] + g.Data[j*n+i]
					g.Data[i*n+j], g.Data[j*n+i] = v, v
				}
			}
		}
	}
	tiles := (n + tile - 1) / tile
	// A long one goes with a short one, so that ranges are of one cost.
	nn.Parallel((tiles+1)/2, 2*n*tile, func(lo, hi int) {
		for p := lo; p < hi; p++ {
			add(p * tile)
			if q := tiles - 1 - p; q > p {
				add(q * tile)
			}
		}
	})
}

// overDistance turns the gradient by Euclidean distances, times factor, into
// the weights of the rows' differences. Weights of rows near each other go to
// single instead.
func (t *table) overDistance(g nn.Mat, factor float64) {
	kept := t.kept.Mat(g.Rows, g.Cols)
	nn.Parallel(g.Rows, 4*g.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row, ds := g.Row(i), kept.Row(i)
			for j, v := range row {
				d := float64(ds[j])
				w := float32(0)
				if v != 0 && d != 0 {
					w = float32(float64(v) * factor / d)
				}
				row[j], ds[j] = w, 0
				if d*d < nearby*t.lengths(i, j) {
					row[j], ds[j] = 0, w
				}
			}
		}
	})
	t.single = t.single[:0]
	for i := range g.Rows {
		for j, w := range kept.Row(i) {
			if w != 0 {
				t.single = append(t.single, cell{int32(i), int32(j), w})
			}
		}
	}
}

// differences sets the gradients to Σ_j w_ij(x_i - y_j) and Σ_i w_ij(y_j - x_i)
// by way of products.
func (t *table) differences(w nn.Mat) {
	dx := t.dx.Mat(t.x.Rows, t.x.Cols)
	nn.Gemm(nn.AsIs, nn.AsIs, -1, w, t.py, 0, dx)
	nn.Parallel(w.Rows, w.Cols+w.Rows, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kernels.Axpy(float32(kernels.Sum(w.Row(i))), t.px.Row(i), dx.Row(i))
		}
	})
	if !t.both() {
		return
	}
	dy := t.dy.Mat(t.y.Rows, t.y.Cols)
	nn.Gemm(nn.Transposed, nn.AsIs, -1, w, t.px, 0, dy)
	t.colSums = fit(t.colSums, w.Cols)
	clear(t.colSums)
	nn.AddColumnSums(t.colSums, w, &t.summing)
	nn.Parallel(w.Cols, dy.Cols, func(lo, hi int) {
		for j := lo; j < hi; j++ {
			kernels.Axpy(t.colSums[j], t.py.Row(j), dy.Row(j))
		}
	})
}

// signs sets the gradients to Σ_j g_ij·sign(x_i - y_j) and its counterpart,
// times factor.
func (t *table) signs(g nn.Mat, factor float32) {
	dx := t.dx.Mat(t.x.Rows, t.x.Cols)
	nn.Parallel(dx.Rows, g.Cols*dx.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := dx.Row(i)
			clear(row)
			for j, v := range g.Row(i) {
				addSigns(row, factor*v, t.x.Row(i), t.y.Row(j))
			}
		}
	})
	if !t.both() {
		return
	}
	dy := t.dy.Mat(t.y.Rows, t.y.Cols)
	nn.Parallel(dy.Rows, g.Rows*dy.Cols, func(lo, hi int) {
		for j := lo; j < hi; j++ {
			row := dy.Row(j)
			clear(row)
			for i := range g.Rows {
				addSigns(row, factor*g.Data[i*g.Cols+j], t.y.Row(j), t.x.Row(i))
			}
		}
	})
}

// addSigns adds w·sign(x - y) to dst, without a branch on the sign.
func addSigns(dst []float32, w float32, x, y []float32) {
	if w == 0 {
		return
	}
	const sign = 1 << 31
	bits := math.Float32bits(w)
	x, y = x[:len(dst)], y[:len(dst)]
	for k := range dst {
		if d := x[k] - y[k]; d != 0 {
			dst[k] += math.Float32frombits(bits ^ math.Float32bits(d)&sign)
		}
	}
}
