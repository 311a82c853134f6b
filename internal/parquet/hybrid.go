package parquet

import (
	"encoding/binary"
	"errors"
)

var errValues = errors.New("a page has fewer values than its header says")

// hybrid decodes the mix of runs and bit-packed groups that levels, dictionary
// indices and some bools are in, one value at a time.
type hybrid struct {
	b     []byte
	width uint // bits of a value, 0..32

	left   uint64 // values of the run or group that is being read
	run    uint32 // its value
	packed bool
	bit    uint64 // position in b of the next packed value, in bits
	end    int    // where the packed group ends
}

func (h *hybrid) next() (uint32, error) {
	for h.left == 0 {
		if err := h.head(); err != nil {
			return 0, err
		}
	}
	h.left--
	if !h.packed {
		return h.run, nil
	}
	v := unpack(h.b, h.bit, h.width)
	h.bit += uint64(h.width)
	if h.left == 0 {
		h.b = h.b[h.end:]
	}
	return v, nil
}

// head reads the head of a run or group.
func (h *hybrid) head() error {
	u, n := binary.Uvarint(h.b)
	if n <= 0 {
		return errValues
	}
	h.b = h.b[n:]
	h.packed = u&1 == 1
	if !h.packed {
		size := int(h.width+7) / 8
		if size > len(h.b) {
			return errValues
		}
		h.run = 0
		for i := range size {
			h.run |= uint32(h.b[i]) << (8 * i)
		}
		h.b = h.b[size:]
		h.left = u >> 1
		return nil
	}
	groups := u >> 1
	if h.width == 0 {
		// Nothing is stored; the values are zeros, as in a run.
		h.packed, h.run, h.left = false, 0, min(groups, 1<<40)*8
		return nil
	}
	if groups > uint64(len(h.b)) {
		groups = uint64(len(h.b)) // a last group may be cut
	}
	h.left = groups * 8
	if most := uint64(len(h.b)) * 8 / uint64(h.width); h.left > most {
		h.left = most
	}
	if h.left == 0 {
		return errValues
	}
	h.bit, h.end = 0, min(int(groups)*int(h.width), len(h.b))
	return nil
}

// unpack returns the value of width bits at a bit position, which b holds.
func unpack(b []byte, bit uint64, width uint) uint32 {
	return uint32(unpack64(b, bit, width))
}

// unpack64 is unpack for widths to 64.
func unpack64(b []byte, bit uint64, width uint) uint64 {
	at, shift := bit/8, uint(bit%8)
	var v uint64
	if at+8 <= uint64(len(b)) {
		v = binary.LittleEndian.Uint64(b[at:]) >> shift
	} else {
		for i, x := range b[at:] {
			v |= uint64(x) << (8 * i)
		}
		v >>= shift
	}
	if shift+width > 64 {
		v |= uint64(b[at+8]) << (64 - shift)
	}
	if width < 64 {
		v &= 1<<width - 1
	}
	return v
}
