package imageprep

import "math"

// filter is a kernel of resampling.
type filter struct {
	name    string
	support float64 // 0: the nearest pixel
	at      func(x float64) float64
}

// filters are PIL's, by its numbers.
var filters = map[int]filter{
	0: {"nearest", 0, nil},
	1: {"lanczos", 3, func(x float64) float64 {
		if x < -3 || x >= 3 {
			return 0
		}
		return sinc(x) * sinc(x/3)
	}},
	2: {"bilinear", 1, func(x float64) float64 { return max(0, 1-math.Abs(x)) }},
	3: {"bicubic", 2, func(x float64) float64 { // Keys' kernel with a = -1/2
		const a = -0.5
		x = math.Abs(x)
		switch {
		case x < 1:
			return float64(float64(float64((a+2)*x)-(a+3))*x*x) + 1
		case x < 2:
			return (float64((float64((x-5)*x)+8)*x) - 4) * a
		}
		return 0
	}},
	4: {"box", 0.5, func(x float64) float64 {
		if x > -0.5 && x <= 0.5 {
			return 1
		}
		return 0
	}},
	5: {"hamming", 1, func(x float64) float64 {
		x = math.Abs(x)
		switch {
		case x == 0:
			return 1
		case x >= 1:
			return 0
		}
		x *= math.Pi
		return math.Sin(x) / x * (0.54 + float64(0.46*math.Cos(x)))
	}},
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	x *= math.Pi
	return math.Sin(x) / x
}

// weightBits is the precision of weights: what is left of 32 bits beside a
// byte and two bits for sums that overshoot.
const weightBits = 32 - 8 - 2

// taps are the pixels that make one pixel of an axis: from the first on, one
// weight each.
type taps struct {
	first   int
	weights []int32
}

// axis computes the taps of the pixels from..to of an axis that is resized
// from in to out pixels. Products are rounded by themselves, also where a
// processor could fuse them with a sum: the weights are the same on each.
func axis(f filter, in, out, from, to int) []taps {
	scale := float64(in) / float64(out)
	widen := max(scale, 1)
	narrow := 1 / widen
	support := float64(f.support * widen)
	all := make([]taps, to-from)
	var kernel []float64
	for i := range all {
		center := float64((float64(from+i) + 0.5) * scale)
		if f.at == nil {
			all[i] = taps{min(int(center), in-1), []int32{1 << weightBits}}
			continue
		}
		first := max(0, int(center-support+0.5))
		last := min(in, int(center+support+0.5))
		kernel = kernel[:0]
		sum := 0.0
		for x := first; x < last; x++ {
			w := f.at((float64(x) - center + 0.5) * narrow)
			kernel = append(kernel, w)
			sum += w
		}
		weights := make([]int32, len(kernel))
		for k, w := range kernel {
			if sum != 0 {
				w /= sum
			}
			weights[k] = int32(math.Floor(math.Abs(w)*(1<<weightBits) + 0.5))
			if w < 0 {
				weights[k] = -weights[k]
			}
		}
		all[i] = taps{first, weights}
	}
	return all
}

// clip rounds a weighted sum to a byte.
func clip(sum int64) byte { return byte(min(max(sum>>weightBits, 0), 255)) }

// window resizes a picture to whole, but computes only the window of that size
// at (at.width, at.height); what lies outside of the picture is black.
func (p *picture) window(f filter, whole, at, window size) []byte {
	out := make([]byte, 3*window.width*window.height)
	left, right := max(0, at.width), min(whole.width, at.width+window.width)
	top, bottom := max(0, at.height), min(whole.height, at.height+window.height)
	columns := axis(f, p.width, whole.width, left, right)
	rows := axis(f, p.height, whole.height, top, bottom)
	// Rows of the picture that the window needs, resized across, kept while the
	// window's rows go down over them.
	across := newBand(p, columns, rows)
	parts := make([][]byte, len(across.lines))
	for i, t := range rows {
		for k := range t.weights {
			parts[k] = across.row(t.first + k)
		}
		line := out[3*((top+i-at.height)*window.width+left-at.width):][:3*len(columns)]
		for x := range line {
			sum := int64(1) << (weightBits - 1)
			for k, w := range t.weights {
				sum += int64(w) * int64(parts[k][x])
			}
			line[x] = clip(sum)
		}
	}
	return out
}

// band is the rows of a picture that some rows of a window need, resized
// across: a ring, as each row is computed once.
type band struct {
	picture *picture
	columns []taps
	lines   [][]byte
	numbers []int // of the rows in lines, -1 for none
}

func newBand(p *picture, columns, rows []taps) *band {
	most := 1
	for _, t := range rows {
		most = max(most, len(t.weights))
	}
	b := &band{picture: p, columns: columns, lines: make([][]byte, most), numbers: make([]int, most)}
	for i := range b.numbers {
		b.numbers[i] = -1
		b.lines[i] = make([]byte, 3*len(columns))
	}
	return b
}

// row returns row y of the picture, resized across.
func (b *band) row(y int) []byte {
	i := y % len(b.lines)
	line := b.lines[i]
	if b.numbers[i] == y {
		return line
	}
	b.numbers[i] = y
	in := b.picture.rgb[3*y*b.picture.width:][:3*b.picture.width]
	for x, t := range b.columns {
		red, green, blue := int64(1)<<(weightBits-1), int64(1)<<(weightBits-1), int64(1)<<(weightBits-1)
		from := in[3*t.first:]
		for k, w := range t.weights {
			red += int64(w) * int64(from[3*k])
			green += int64(w) * int64(from[3*k+1])
			blue += int64(w) * int64(from[3*k+2])
		}
		line[3*x], line[3*x+1], line[3*x+2] = clip(red), clip(green), clip(blue)
	}
	return line
}
