package static

import (
	"encoding/binary"
	"math"
)

// A sum adds rows of bytes times scales. Four uint64 hold eight dimensions in
// lanes of 32 bits: byte k of eight in the low lane of word k, byte k+4 in its
// high lane. So one multiplication serves two dimensions.
type sum struct {
	lanes [Dim / 2]uint64
	total [Dim]int64
}

const (
	laneMask = 0x000000FF_000000FF
	// maxRows is how many rows a lane holds: 256 * 255 * 65535 < 1<<32.
	maxRows = 256
	// bias is what the bytes of a row are above its values.
	bias = 128
)

// embed writes the embedding of a text with these tokens to dst. All up to the
// length is in integers, hence exact and independent of order; the conversions
// around products keep compilers from fusing them with an addition, which some
// platforms would do and others not.
func (t *table) embed(s *sum, ids []int32, dst *[Dim]float32) {
	clear(s.total[:])
	scales := int64(0)
	for len(ids) > 0 {
		n := min(len(ids), maxRows)
		scales += t.add(s, ids[:n])
		ids = ids[n:]
	}
	squares := 0.0
	for i, v := range s.total {
		v -= bias * scales
		s.total[i] = v
		squares += float64(float64(v) * float64(v))
	}
	if squares == 0 {
		for i := range dst {
			dst[i] = 1.0 / 16
		}
		return
	}
	inverse := 1 / math.Sqrt(squares)
	for i, v := range s.total {
		dst[i] = float32(float64(v) * inverse)
	}
}

// add adds the rows of at most maxRows tokens to s.total and returns the sum
// of their scales.
func (t *table) add(s *sum, ids []int32) int64 {
	clear(s.lanes[:])
	scales := uint64(0)
	for _, id := range ids {
		scale := uint64(binary.LittleEndian.Uint16(t.scales[2*int(id):]))
		if scale == 0 {
			continue
		}
		scales += scale
		row := (*[Dim]byte)(t.rows[int(id)*Dim:])
		for j := 0; j < Dim/8; j++ {
			x := binary.LittleEndian.Uint64(row[8*j : 8*j+8])
			l := (*[4]uint64)(s.lanes[4*j : 4*j+4])
			l[0] += (x & laneMask) * scale
			l[1] += (x >> 8 & laneMask) * scale
			l[2] += (x >> 16 & laneMask) * scale
			l[3] += (x >> 24 & laneMask) * scale
		}
	}
	for j := 0; j < Dim/8; j++ {
		for k := range 4 {
			l := s.lanes[4*j+k]
			s.total[8*j+k] += int64(l & math.MaxUint32)
			s.total[8*j+4+k] += int64(l >> 32)
		}
	}
	return int64(scales)
}
