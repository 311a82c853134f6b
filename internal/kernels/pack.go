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

// at is the place of an element.
func (o operand) at(outer, p int) int {
	if o.kMajor {
		return p*o.ld + outer
	}
	return outer*o.ld + p
}

// panels packs count columns of b from first on and k terms from p on into
// panels of 16 columns each; a panel holds its 16 values of one term after
// those of the other. The last panel is filled up with zeros.
func (o operand) panels(dst []float32, first, count, p, k int) {
	for j := 0; j < count; j += tileCols {
		o.panel(dst[j*k:(j+tileCols)*k], first+j, min(tileCols, count-j), p, k)
	}
}

func (o operand) panel(dst []float32, first, count, p, k int) {
	src, done := o.data[o.at(first, p):], 0
	switch {
	case o.kMajor && count == tileCols:
		done = copyTerms(dst, src, o.ld, k)
	case o.kMajor:
	case count == tileCols:
		done = transpose(dst, tileCols, src, o.ld, k)
	default:
		done = transposeSome(dst, src, o.ld, count, k)
	}
	for t := done; t < k; t++ {
		out := dst[t*tileCols : (t+1)*tileCols]
		clear(out[count:])
		for i := range count {
			out[i] = o.data[o.at(first+i, p+t)]
		}
	}
}

// transposeSome is transpose of fewer than 16 rows, with zeros for the others.
func transposeSome(dst, src []float32, ld, count, n int) int {
	const step = 32
	var whole [tileCols * step]float32
	done := 0
	for done < n {
		terms := min(step, n-done)
		for i := range count {
			copy(whole[i*step:(i+1)*step], src[i*ld+done:][:terms])
		}
		got := transpose(dst[done*tileCols:], tileCols, whole[:], step, terms)
		if done += got; got < terms {
			break
		}
	}
	return done
}

// block writes count rows of a from first on and k terms from p on, times
// alpha, to dst, row after row.
func (o operand) block(dst []float32, first, count, p, k int, alpha float32) {
	dst = dst[:count*k]
	if !o.kMajor {
		for i := range count {
			scale(alpha, o.data[o.at(first+i, p):][:k], dst[i*k:(i+1)*k])
		}
		return
	}
	for t := 0; t < k; t += tileCols {
		done, terms := 0, min(tileCols, k-t)
		if terms == tileCols {
			done = transpose(dst[t:], k, o.data[o.at(first, p+t):], o.ld, count)
		}
		for i := done; i < count; i++ {
			for q := t; q < t+terms; q++ {
				dst[i*k+q] = o.data[o.at(first+i, p+q)]
			}
		}
	}
	if alpha != 1 {
		scale(alpha, dst, dst)
	}
}
