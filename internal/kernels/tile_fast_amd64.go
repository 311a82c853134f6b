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

// tile adds the product of the first rows rows of the packed panels a and the
// width columns of the packed panels b over k terms to c, or to zeros.
func tile(rows, width, k int, a, b, c []float32, ldc int, zero bool) {
	if !fast {
		tileGo(rows, k, a, b, c, ldc, zero)
		return
	}
	_, _, _ = a[ceil(rows, tileRows)*k-1], b[width*k-1], c[(rows-1)*ldc+width-1]
	if width > tileCols {
		wideTile(rows, k, &a[0], &b[0], &c[0], ldc, zero)
		return
	}
	switch rows {
	case 1:
		tile1x16(k, &a[0], &b[0], &c[0], ldc, zero)
	case 2:
		tile2x16(k, &a[0], &b[0], &c[0], ldc, zero)
	case 3:
		tile3x16(k, &a[0], &b[0], &c[0], ldc, zero)
	case 4:
		tile4x16(k, &a[0], &b[0], &c[0], ldc, zero)
	case 5:
		tile5x16(k, &a[0], &b[0], &c[0], ldc, zero)
	default:
		tile6x16(k, &a[0], &b[0], &c[0], ldc, zero)
	}
}

func wideTile(rows, k int, a, b, c *float32, ldc int, zero bool) {
	switch rows {
	case 1:
		tile1x32(k, a, b, c, ldc, zero)
	case 2:
		tile2x32(k, a, b, c, ldc, zero)
	case 3:
		tile3x32(k, a, b, c, ldc, zero)
	case 4:
		tile4x32(k, a, b, c, ldc, zero)
	case 5:
		tile5x32(k, a, b, c, ldc, zero)
	case 6:
		tile6x32(k, a, b, c, ldc, zero)
	default:
		tile12x32(k, a, b, c, ldc, zero)
	}
}

// packFull packs as much of a full panel as the assembly can, and returns how
// many of the k terms that is.
func packFull(dst, src []float32, ld, width, k int, kMajor bool, alpha float32) int {
	if !fast {
		return 0
	}
	if !kMajor {
		k &^= 3
	}
	if k == 0 {
		return 0
	}
	_ = dst[width*k-1]
	switch {
	case kMajor && width == tileCols:
		_ = src[(k-1)*ld+width-1]
		packRows16(k, &src[0], ld, &dst[0])
	case kMajor:
		_ = src[(k-1)*ld+width-1]
		packRows6(k, alpha, &src[0], ld, &dst[0])
	case width == tileCols:
		_ = src[(width-1)*ld+k-1]
		packCols16(k, &src[0], ld, &dst[0])
	default:
		_ = src[(width-1)*ld+k-1]
		packCols6(k, alpha, &src[0], ld, &dst[0])
	}
	return k
}
