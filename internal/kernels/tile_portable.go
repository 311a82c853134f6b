//go:build !amd64 || purego

package kernels

func tileWidth(int) int { return tileCols }

func tileHeight(rows, _ int) int { return min(rows, tileRows) }

func tile(rows, _, k int, a, b, c []float32, ldc int, zero bool) {
	tileGo(rows, k, a, b, c, ldc, zero)
}

func packFull(_, _ []float32, _, _, _ int, _ bool, _ float32) int { return 0 }
