package kernels

// operand is a or b of a product. Its elements are named by an outer index,
// that of the row of a or the column of b, and by the index p of the term.
type operand struct {
	data []float32
	ld   int
	// kMajor says that the elements of one p are neighbours, not those of
	// one outer index.
	kMajor bool
}

// panels packs count outer indexes from first on and k terms from p on into
// panels of width outer indexes each; a panel holds its width values of one
// term after those of the other, times alpha. The last panel is filled up
// with zeros.
func (o operand) panels(dst []float32, width, first, count, p, k int, alpha float32) {
	for i := 0; i < count; i += width {
		o.panel(dst[i*k:(i+width)*k], width, first+i, min(width, count-i), p, k, alpha)
	}
}

func (o operand) panel(dst []float32, width, first, count, p, k int, alpha float32) {
	step, start := 1, first*o.ld+p
	if o.kMajor {
		step, start = o.ld, p*o.ld+first
	}
	src, done := o.data[start:], 0
	if count == width {
		done = packFull(dst, src, o.ld, width, k, o.kMajor, alpha)
	}
	for t := done; t < k; t++ {
		out := dst[t*width : (t+1)*width]
		clear(out[count:])
		at, next := t*step, o.ld
		if o.kMajor {
			next = 1
		}
		for i := range count {
			out[i] = alpha * src[at]
			at += next
		}
	}
}
