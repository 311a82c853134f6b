//go:build amd64 && !purego

package kernels

// tile adds the product of the first rows rows of the packed panel a and the
// 16 columns of the packed panel b over k terms to c, or to zeros.
func tile(rows, k int, a, b, c []float32, ldc int, zero bool) {
	if !fast {
		tileGo(rows, k, a, b, c, ldc, zero)
		return
	}
	_, _, _ = a[tileRows*k-1], b[tileCols*k-1], c[(rows-1)*ldc+tileCols-1]
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
