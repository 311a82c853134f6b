package kernels

// The micro-kernel computes a tile of tileRows x tileCols elements from a
// packed panel of rows of a and one of columns of b.
const (
	tileRows = 6
	tileCols = 16
)

// tileGo is the portable micro-kernel: it writes the product of so many rows
// and 16 packed columns over k terms to c. The sums begin with what is in
// start. Every element runs through the same code, whatever the number of rows.
func tileGo(height, k int, a rows, b []float32, start, c rows) {
	for i := 0; i < height; i += 2 {
		// The last row of an odd number is computed twice and stored once.
		next := min(i+1, height-1)
		x, y := a.from(i, 0).data[:k], a.from(next, 0).data[:k]
		for j := 0; j < tileCols; j += 4 {
			var s [8]float32
			if start.data != nil {
				copy(s[:4], start.from(i, j).data)
				copy(s[4:], start.from(next, j).data)
			}
			s0, s1, s2, s3, s4, s5, s6, s7 := s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
			for p := range k {
				x, y := x[p], y[p]
				z := b[p*tileCols+j:]
				z = z[:4]
				s0 += x * z[0]
				s1 += x * z[1]
				s2 += x * z[2]
				s3 += x * z[3]
				s4 += y * z[0]
				s5 += y * z[1]
				s6 += y * z[2]
				s7 += y * z[3]
			}
			top, low := c.from(i, j).data[:4], c.from(next, j).data[:4]
			low[0], low[1], low[2], low[3] = s4, s5, s6, s7
			top[0], top[1], top[2], top[3] = s0, s1, s2, s3
		}
	}
}
