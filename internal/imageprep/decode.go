package imageprep

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"

	"golang.org/x/image/webp"
)

// picture is a decoded picture: three bytes a pixel, row by row.
type picture struct {
	size
	rgb []byte
}

// maxPixels is how large a picture may be: 64 million pixels.
const maxPixels = 1 << 26

// perByte is the most pixels that a byte of a file can stand for in the
// formats that are no WebP: deflate gives at most 1,032 bytes, each of up to
// eight pixels.
const perByte = 1032 * 8

// format is a kind of file, by how it starts.
type format struct {
	name   string
	is     func(file []byte) bool
	config func(file []byte) (image.Config, error)
	decode func(file []byte) (image.Image, error)
}

func starts(with string) func([]byte) bool {
	return func(file []byte) bool { return bytes.HasPrefix(file, []byte(with)) }
}

var formats = []format{
	{"PNG", starts("\x89PNG\r\n\x1a\n"), func(b []byte) (image.Config, error) { return png.DecodeConfig(bytes.NewReader(b)) }, func(b []byte) (image.Image, error) { return png.Decode(bytes.NewReader(b)) }},
	{"JPEG", starts("\xff\xd8"), func(b []byte) (image.Config, error) { return jpeg.DecodeConfig(bytes.NewReader(b)) }, func(b []byte) (image.Image, error) { return jpeg.Decode(bytes.NewReader(b)) }},
	{"GIF", starts("GIF8"), func(b []byte) (image.Config, error) { return gif.DecodeConfig(bytes.NewReader(b)) }, func(b []byte) (image.Image, error) { return gif.Decode(bytes.NewReader(b)) }},
	{"WebP", func(b []byte) bool { return len(b) > 12 && string(b[:4]) == "RIFF" && string(b[8:12]) == "WEBP" }, func(b []byte) (image.Config, error) { return webp.DecodeConfig(bytes.NewReader(b)) }, func(b []byte) (image.Image, error) { return webp.Decode(bytes.NewReader(b)) }},
}

var errFormat = errors.New("the bytes are no PNG, JPEG, GIF or WebP file")

// decode decodes a picture of a known format and a bearable size.
func decode(file []byte) (*picture, error) {
	for _, f := range formats {
		if !f.is(file) {
			continue
		}
		p, err := f.picture(file)
		if err != nil {
			return nil, fmt.Errorf("%s file of %d bytes: %w", f.name, len(file), err)
		}
		return p, nil
	}
	return nil, errFormat
}

func (f format) picture(file []byte) (*picture, error) {
	c, err := f.config(file)
	if err != nil {
		return nil, err
	}
	if c.Width < 1 || c.Height < 1 {
		return nil, fmt.Errorf("a picture of %d x %d pixels", c.Width, c.Height)
	}
	if c.Width > maxPixels/c.Height {
		return nil, fmt.Errorf("a picture of %d x %d pixels, more than %d in all", c.Width, c.Height, maxPixels)
	}
	if f.name != "WebP" && c.Width > (len(file)*perByte)/c.Height {
		return nil, fmt.Errorf("a picture of %d x %d pixels, which so few bytes cannot hold", c.Width, c.Height)
	}
	m, err := f.decode(file)
	if err != nil {
		return nil, err
	}
	b := m.Bounds()
	if b.Dx() > c.Width || b.Dy() > c.Height {
		return nil, fmt.Errorf("a picture of %v, not the %d x %d of its header", b, c.Width, c.Height)
	}
	p := &picture{size{c.Width, c.Height}, make([]byte, 3*c.Width*c.Height)}
	switch m := m.(type) {
	case *image.YCbCr:
		p.fromYCbCr(m, f.name == "WebP")
	case *image.NYCbCrA:
		p.fromYCbCr(&m.YCbCr, f.name == "WebP")
	default:
		p.fill(m)
	}
	return p, nil
}

// fill takes over a picture pixel by pixel. The first frame of a GIF may cover
// a part alone; the rest has the first color.
func (p *picture) fill(m image.Image) {
	b := m.Bounds()
	at := func(x, y int) (r, g, b byte) { return opaque(m.At(x, y)) }
	switch m := m.(type) {
	case *image.Paletted:
		var palette [256][3]byte
		for i, c := range m.Palette {
			palette[i][0], palette[i][1], palette[i][2] = opaque(c)
		}
		at = func(x, y int) (byte, byte, byte) {
			c := palette[m.Pix[m.PixOffset(x, y)]]
			return c[0], c[1], c[2]
		}
		if b.Dx() < p.width || b.Dy() < p.height {
			for i := range p.rgb {
				p.rgb[i] = palette[0][i%3]
			}
		}
	case *image.NRGBA:
		at = func(x, y int) (byte, byte, byte) {
			pix := m.Pix[m.PixOffset(x, y):][:3]
			return pix[0], pix[1], pix[2]
		}
	case *image.RGBA:
		at = func(x, y int) (byte, byte, byte) {
			pix := m.Pix[m.PixOffset(x, y):][:3]
			return pix[0], pix[1], pix[2]
		}
	case *image.Gray:
		at = func(x, y int) (byte, byte, byte) {
			v := m.Pix[m.PixOffset(x, y)]
			return v, v, v
		}
	}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		if y < 0 || y >= p.height {
			continue
		}
		for x := b.Min.X; x < b.Max.X; x++ {
			if x < 0 || x >= p.width {
				continue
			}
			out := p.rgb[3*(y*p.width+x):][:3]
			out[0], out[1], out[2] = at(x, y)
		}
	}
}

// opaque returns a color without its alpha, which is dropped and not blended.
func opaque(c color.Color) (r, g, b byte) {
	switch c := c.(type) {
	case color.NRGBA:
		return c.R, c.G, c.B
	case color.NRGBA64:
		return byte(c.R >> 8), byte(c.G >> 8), byte(c.B >> 8)
	case color.CMYK:
		light := 255 - int(c.K)
		channel := func(ink byte) byte { // in steps of 1/255, rounded
			v := int(ink)*light + 128
			return byte(light - (v+v>>8)>>8)
		}
		return channel(c.C), channel(c.M), channel(c.Y)
	}
	n := color.NRGBAModel.Convert(c).(color.NRGBA)
	return n.R, n.G, n.B
}
