package kernels

// sharing is a product as a task. Either rows are handed out, and a stripe of
// columns of b is packed for all goroutines, or columns, and rows of a are.
type sharing struct {
	product
	byCols bool
	direct bool      // rows of a are read where they are
	lo, hi int       // the columns of b, or rows of a, that are packed
	panels []float32 // them, a block of terms after the other; nil if that was not needed
}

// width is the number of columns, or rows, of a packed panel.
func (g *sharing) width() int {
	if g.byCols {
		return tileRows
	}
	return tileCols
}

// unitPanels is the number of panels that are packed as one unit.
const unitPanels = 4

// units implements task.
func (g *sharing) units() int {
	if g.panels == nil || g.k == 0 || g.alpha == 0 {
		return 0
	}
	blocks := (g.k + termsOf(g.k) - 1) / termsOf(g.k)
	return blocks * g.perBlock()
}

func (g *sharing) perBlock() int {
	group := unitPanels * g.width()
	return (g.hi - g.lo + group - 1) / group
}

// prepare implements task.
func (g *sharing) prepare(unit int) {
	terms, width := termsOf(g.k), g.width()
	p, first := unit/g.perBlock()*terms, unit%g.perBlock()*unitPanels*width
	k := min(terms, g.k-p)
	count := min(unitPanels*width, g.hi-g.lo-first)
	dst := g.panels[p*ceil(g.hi-g.lo, width)+first*k:]
	if g.byCols {
		g.a.block(dst, g.lo+first, count, p, k, g.alpha)
	} else {
		g.b.panels(dst, g.lo+first, count, p, k)
	}
}

// extent implements task.
func (g *sharing) extent() (n, grain int) {
	if g.byCols {
		return g.n, 2 * tileCols
	}
	return g.m, tileRows
}

// part implements task.
func (g *sharing) part(s *buffers, lo, hi int) {
	if g.byCols {
		g.cols(s, lo, hi)
	} else {
		g.rows(s, lo, hi)
	}
}

// rows computes rows of a stripe of columns.
func (g *sharing) rows(s *buffers, lo, hi int) {
	if g.scale(lo, hi, g.lo, g.hi) {
		return
	}
	b := g.panels
	if g.packed != nil {
		b = g.packed
	}
	terms, wide := termsOf(g.k), ceil(g.hi-g.lo, tileCols)
	for i := lo; i < hi; i += rowBlock {
		mc := min(rowBlock, hi-i)
		for p := 0; p < g.k; p += terms {
			k := min(terms, g.k-p)
			a := rows{s.panels, k}
			if g.direct {
				a = rows{g.a.data, g.a.ld}.from(i, p)
			} else {
				g.a.block(s.panels, i, mc, p, k, g.alpha)
			}
			g.tiles(a, b[p*wide:], i, mc, g.lo, g.hi-g.lo, k, p == 0)
		}
	}
}

// cols computes columns of some rows.
func (g *sharing) cols(s *buffers, lo, hi int) {
	if g.scale(g.lo, g.hi, lo, hi) {
		return
	}
	terms, high := termsOf(g.k), ceil(g.hi-g.lo, tileRows)
	strip := stripOf(g.hi - g.lo)
	for j := lo; j < hi; j += strip {
		nc := min(strip, hi-j)
		for p := 0; p < g.k; p += terms {
			k := min(terms, g.k-p)
			g.b.panels(s.panels, j, nc, p, k)
			for i := g.lo; i < g.hi; i += rowBlock {
				a := rows{g.a.data, g.a.ld}
				if g.direct {
					a = a.from(i, p)
				} else {
					a = rows{g.panels[p*high+(i-g.lo)*k:], k}
				}
				g.tiles(a, s.panels, i, min(rowBlock, g.hi-i), j, nc, k, p == 0)
			}
		}
	}
}

// canDirect reports whether rows of a can be read where they are: they are the
// factors themselves, and those of a tile do not fall on the same lines of the
// first-level cache.
func (g *product) canDirect() bool {
	return g.alpha == 1 && !g.a.kMajor && g.a.ld%1024 != 0
}

func stripOf(rows int) int {
	if rows <= rowBlock {
		return colStrip
	}
	return wideStrip
}

// run computes the product with at most limit goroutines, 0 for no limit.
func (g *product) run(limit int) {
	workers := take(workersFor(g.m, g.n, g.k, limit))
	defer func(n int) { busy.Add(int64(-n)) }(workers)
	w := hire()
	defer w.dismiss()

	t := &w.product
	*t = sharing{product: *g}
	// Few rows leave too little to hand out, and packing columns for all of
	// them costs more than it saves.
	t.byCols = g.packed == nil && (g.m <= rowBlock || workers > 1 && g.m < g.n)
	t.direct = g.canDirect()
	all, terms, packs := g.n, min(g.k, termBlock), g.packed == nil
	need := ceil(min(g.m, rowBlock), tileRows) * terms
	if t.byCols {
		all, packs = g.m, !t.direct
		need = ceil(min(g.n, stripOf(g.m)), tileCols) * terms
	}
	stripe := all
	if packs && g.k > 0 {
		stripe = min(ceil(all, t.width()), max(1, panelLimit/g.k/t.width())*t.width())
		w.panels = grown(w.panels, stripe*g.k)
		t.panels = w.panels
	}
	for t.lo = 0; t.lo < all; t.lo += stripe {
		t.hi = min(all, t.lo+stripe)
		w.run(t, workers, room{panels: need})
	}
}
