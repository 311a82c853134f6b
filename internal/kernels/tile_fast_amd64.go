//go:build amd64 && !purego

package kernels

// tileWidth is the number of columns of the next tiles where there are cols
// left, and tileHeight that of their rows. A tile may be wider than what is
// left only if it is the narrowest one.
func tileWidth(cols int) int {
	if fast && wide && cols >= 2*tileCols {
		return 2 * tileCols
	}
	return tileCols
}

func tileHeight(rows, width int) int {
	if width > tileCols && rows >= 2*tileRows {
		return 2 * tileRows
	}
	return min(rows, tileRows)
}

// tile writes the product of count times so many rows of a and of the width
// columns of the packed panels b over k terms to c. The sums begin with what is
// in start.
func tile(count, height, width, k int, a rows, b []float32, start, c rows) {
	if !fast {
		tileGo(count*height, k, a, b, start, c)
		return
	}
	last := count*height - 1
	_, _, _ = a.data[last*a.ld+k-1], b[width*k-1], c.data[last*c.ld+width-1]
	var from *float32
	if start.data != nil {
		_ = start.data[last*start.ld+width-1]
		from = &start.data[0]
	}
	x, y, z := &a.data[0], &b[0], &c.data[0]
	if width > tileCols {
		wideTile(count, height, k, x, a.ld, y, from, start.ld, z, c.ld)
		return
	}
	switch height {
	case 1:
		tile1x16(count, k, x, a.ld, y, from, start.ld, z, c.ld)
	case 2:
		tile2x16(count, k, x, a.ld, y, from, start.ld, z, c.ld)
	case 3:
		tile3x16(count, k, x, a.ld, y, from, start.ld, z, c.ld)
	case 4:
		tile4x16(count, k, x, a.ld, y, from, start.ld, z, c.ld)
	case 5:
		tile5x16(count, k, x, a.ld, y, from, start.ld, z, c.ld)
	default:
		tile6x16(count, k, x, a.ld, y, from, start.ld, z, c.ld)
	}
}

func wideTile(count, height, k int, a *float32, lda int, b, from *float32, ldf int, c *float32, ldc int) {
	switch height {
	case 1:
		tile1x32(count, k, a, lda, b, from, ldf, c, ldc)
	case 2:
		tile2x32(count, k, a, lda, b, from, ldf, c, ldc)
	case 3:
		tile3x32(count, k, a, lda, b, from, ldf, c, ldc)
	case 4:
		tile4x32(count, k, a, lda, b, from, ldf, c, ldc)
	case 5:
		tile5x32(count, k, a, lda, b, from, ldf, c, ldc)
	case 6:
		tile6x32(count, k, a, lda, b, from, ldf, c, ldc)
	default:
		tile12x32(count, k, a, lda, b, from, ldf, c, ldc)
	}
}

// copyTerms packs k terms of 16 columns that are neighbours if the assembly
// can, and returns how many of them.
func copyTerms(dst, src []float32, ld, k int) int {
	if !fast || k == 0 {
		return 0
	}
	_, _ = dst[tileCols*k-1], src[(k-1)*ld+tileCols-1]
	packRows16(k, &src[0], ld, &dst[0])
	return k
}

// transpose writes columns of 16 rows of src to rows of dst, as many of n as
// the assembly can, and returns that number.
func transpose(dst []float32, ldd int, src []float32, ld, n int) int {
	n &^= 3
	if !fast || n == 0 {
		return 0
	}
	_, _ = dst[(n-1)*ldd+tileCols-1], src[(tileCols-1)*ld+n-1]
	packCols16(n, &src[0], ld, &dst[0], ldd)
	return n
}
