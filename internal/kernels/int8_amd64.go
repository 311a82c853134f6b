//go:build amd64 && !purego

package kernels

import "golang.org/x/sys/cpu"

// dotProducts says that the processor has VNNI; it is used only with wide.
var dotProducts = cpu.X86.HasAVX512VNNI

// byteTileRows is the most rows of a tile of bytes.
const byteTileRows = 8

// byteTileWidth and byteTileHeight are as tileWidth and tileHeight.
func byteTileWidth(cols int) int {
	if fast && wide && dotProducts && cols >= 2*tileCols {
		return 2 * tileCols
	}
	return tileCols
}

func byteTileHeight(rows, width int) int {
	if width > tileCols {
		return min(rows, 8)
	}
	return min(rows, 4)
}

// byteTile multiplies rows rows of bytes, 4·steps each, with width packed
// columns.
func byteTile(rows, width, steps int, a []uint8, b []int8, scales []float32, zeros []int32, colScales []float32, colSums []int32, c []float32, ldc int, add bool) {
	if steps == 0 || !fast {
		byteTileGo(rows, steps, a, b, scales, zeros, colScales, colSums, c, ldc, add)
		return
	}
	_, _, _, _ = a[rows*steps*4-1], b[width*steps*4-1], c[(rows-1)*ldc+width-1], scales[rows-1]
	_, _, _ = zeros[rows-1], colScales[width-1], colSums[width-1]
	// The calls are spelled out because one by a variable would make its
	// operands escape to the heap.
	x, y, ldx, s, z, v, u, d := &a[0], &b[0], steps*4, &scales[0], &zeros[0], &colScales[0], &colSums[0], &c[0]
	switch 100*width + rows {
	case 1601:
		bytes1x16(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	case 1602:
		bytes2x16(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	case 1603:
		bytes3x16(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	case 1604:
		bytes4x16(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	case 3201:
		bytes1x32(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	case 3202:
		bytes2x32(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	case 3203:
		bytes3x32(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	case 3204:
		bytes4x32(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	case 3205:
		bytes5x32(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	case 3206:
		bytes6x32(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	case 3207:
		bytes7x32(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	case 3208:
		bytes8x32(steps, x, ldx, y, s, z, v, u, d, ldc, add)
	}
}

// spread returns the least and the greatest of values and 0, and 0, or NaN if
// one of them is not finite. Their number is a multiple of 32.
func spread(x []float32) (low, high, odd float32) {
	if fast && len(x) > 0 {
		return spreadVec(len(x), &x[0])
	}
	return spreadGo(x)
}

// quantize rounds values, a multiple of 32 of them, to bytes.
func quantize(dst []uint8, x []float32, inverse float32, zero int32) {
	if fast && len(x) > 0 {
		quantizeVec(len(x), &x[0], inverse, zero, &dst[0])
		return
	}
	quantizeGo(dst, x, inverse, zero)
}
