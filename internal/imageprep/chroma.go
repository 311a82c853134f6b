package imageprep

import "image"

// fromYCbCr takes over a picture of brightness and two planes of color, which
// may have half the size. They are enlarged with a triangle filter: each of
// two neighbours takes three quarters of the nearer sample and one of the
// other, as the common decoders do.
func (p *picture) fromYCbCr(m *image.YCbCr, video bool) {
	convert := jpegRGB
	if video {
		convert = videoRGB
	}
	halfX, halfY := 1, 1
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio444:
	case image.YCbCrSubsampleRatio422:
		halfX = 2
	case image.YCbCrSubsampleRatio420:
		halfX, halfY = 2, 2
	case image.YCbCrSubsampleRatio440:
		halfY = 2
	default: // a quarter, which nobody writes
		p.fill(m)
		return
	}
	width, height := min(p.width, m.Rect.Dx()), min(p.height, m.Rect.Dy())
	planes := [2]chroma{
		{m.Cb, m.CStride, (width + halfX - 1) / halfX, (height + halfY - 1) / halfY, halfX == 2, halfY == 2, make([]int, (width+halfX-1)/halfX)},
		{m.Cr, m.CStride, (width + halfX - 1) / halfX, (height + halfY - 1) / halfY, halfX == 2, halfY == 2, make([]int, (width+halfX-1)/halfX)},
	}
	cb, cr := make([]byte, width+1), make([]byte, width+1)
	for y := range height {
		planes[0].row(cb, y)
		planes[1].row(cr, y)
		luma := m.Y[y*m.YStride:][:width]
		out := p.rgb[3*y*p.width:]
		for x, v := range luma {
			out[3*x], out[3*x+1], out[3*x+2] = convert(int(v), int(cb[x]), int(cr[x]))
		}
	}
}

// chroma is a plane of color.
type chroma struct {
	pix           []byte
	stride        int
	width, height int
	halfX, halfY  bool
	sums          []int // a row mixed with its neighbour, times 4 if so
}

// row writes row y of the enlarged plane to dst.
func (c *chroma) row(dst []byte, y int) {
	if !c.halfY {
		line := c.pix[y*c.stride:][:c.width]
		if !c.halfX {
			copy(dst, line)
			return
		}
		for i, v := range line {
			c.sums[i] = int(v)
		}
		spread(dst, c.sums, 1, 2, 2)
		return
	}
	near := y / 2
	far := near + 2*(y&1) - 1
	far = min(max(far, 0), c.height-1)
	a, b := c.pix[near*c.stride:][:c.width], c.pix[far*c.stride:][:c.width]
	for i := range c.sums {
		c.sums[i] = 3*int(a[i]) + int(b[i])
	}
	if c.halfX {
		spread(dst, c.sums, 8, 7, 4)
		return
	}
	for i, v := range c.sums {
		dst[i] = byte((v + 1 + y&1) >> 2)
	}
}

// spread doubles a row: samples are mixed 3 to 1 with the neighbour on their
// side and divided by 1<<shift after adding a half, a bit less or more than
// that to the left and the right, so that errors even out.
func spread(dst []byte, row []int, left, right, shift int) {
	last := len(row) - 1
	for i, v := range row {
		before, after := row[max(0, i-1)], row[min(last, i+1)]
		if 2*i < len(dst) {
			dst[2*i] = byte((3*v + before + left) >> shift)
		}
		if 2*i+1 < len(dst) {
			dst[2*i+1] = byte((3*v + after + right) >> shift)
		}
	}
}

func toByte(v int) byte { return byte(min(max(v, 0), 255)) }

// jpegRGB converts by the equations of JFIF, in 16 bits after the point.
func jpegRGB(y, cb, cr int) (r, g, b byte) {
	const half = 1 << 15
	cb, cr = cb-128, cr-128
	return toByte(y + (91881*cr+half)>>16),
		toByte(y + (-22554*cb-46802*cr+half)>>16),
		toByte(y + (116130*cb+half)>>16)
}

// videoRGB converts by BT.601 in the range of video, black at 16 and white at
// 235, as WebP has it: in 14 bits after the point.
func videoRGB(y, u, v int) (r, g, b byte) {
	y = y * 19077 >> 8
	return toByte((y + v*26149>>8 - 14234) >> 6),
		toByte((y - u*6419>>8 - v*13320>>8 + 8708) >> 6),
		toByte((y + u*33050>>8 - 17685) >> 6)
}
