//go:build !amd64 || purego

package kernels

func tileWidth(int) int { return tileCols }

func tileHeight(rows, _ int) int { return min(rows, tileRows) }

func tile(count, height, _, k int, a rows, b []float32, start, c rows) {
	tileGo(count*height, k, a, b, start, c)
}

func copyTerms(_, _ []float32, _, _ int) int { return 0 }

func transpose(_ []float32, _ int, _ []float32, _, _ int) int { return 0 }
