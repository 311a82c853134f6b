//go:build !amd64 || purego

package kernels

const byteTileRows = 4

func byteTileWidth(int) int { return tileCols }

func byteTileHeight(rows, _ int) int { return min(rows, byteTileRows) }

func byteTile(rows, _, steps int, a []uint8, b []int8, scales []float32, zeros []int32, colScales []float32, colSums []int32, c []float32, ldc int, add bool) {
	byteTileGo(rows, steps, a, b, scales, zeros, colScales, colSums, c, ldc, add)
}

func spread(x []float32) (low, high, odd float32) { return spreadGo(x) }

func quantize(dst []uint8, x []float32, inverse float32, zero int32) {
	quantizeGo(dst, x, inverse, zero)
}
