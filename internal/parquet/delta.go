package parquet

import (
	"encoding/binary"
	"errors"
)

var errDelta = errors.New("malformed DELTA_BINARY_PACKED values")

// delta decodes DELTA_BINARY_PACKED integers one at a time.
type delta struct {
	b         []byte
	blockSize uint64
	minis     uint64 // miniblocks a block
	count     uint64 // values in all
	given     uint64
	last      int64

	minDelta  int64
	widths    []byte // of the miniblocks of the block that are not begun
	miniLeft  uint64 // values left of the miniblock
	miniWidth uint
	bit       uint64
}

// newDelta reads the head of the values that b begins with, at most most.
func newDelta(b []byte, most int32) (*delta, error) {
	d := &delta{}
	for _, dst := range []*uint64{&d.blockSize, &d.minis, &d.count} {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errDelta
		}
		*dst, b = v, b[n:]
	}
	first, n := binary.Varint(b)
	if n <= 0 {
		return nil, errDelta
	}
	d.last, d.b = first, b[n:]
	if d.count > uint64(most) || d.blockSize == 0 || d.blockSize > 1<<20 || d.minis == 0 || d.minis > d.blockSize || d.blockSize%d.minis != 0 || d.blockSize/d.minis%8 != 0 {
		return nil, errDelta
	}
	return d, nil
}

func (d *delta) next() (int64, error) {
	if d.given >= d.count {
		return 0, errValues
	}
	d.given++
	if d.given == 1 {
		return d.last, nil
	}
	if d.miniLeft == 0 {
		if err := d.mini(); err != nil {
			return 0, err
		}
	}
	d.miniLeft--
	if d.miniWidth > 0 {
		if (d.bit+uint64(d.miniWidth)+7)/8 > uint64(len(d.b)) {
			return 0, errDelta
		}
		d.last += int64(unpack64(d.b, d.bit, d.miniWidth))
		d.bit += uint64(d.miniWidth)
	}
	d.last += d.minDelta
	return d.last, nil
}

// mini begins the next miniblock.
func (d *delta) mini() error {
	d.endMini()
	if len(d.widths) == 0 {
		minDelta, n := binary.Varint(d.b)
		if n <= 0 || uint64(len(d.b)-n) < d.minis {
			return errDelta
		}
		d.minDelta = minDelta
		d.widths, d.b = d.b[n:n+int(d.minis)], d.b[n+int(d.minis):]
	}
	d.miniWidth, d.widths = uint(d.widths[0]), d.widths[1:]
	if d.miniWidth > 64 {
		return errDelta
	}
	d.miniLeft, d.bit = d.blockSize/d.minis, 0
	return nil
}

// endMini leaves the bytes of the miniblock that is being read behind. The
// last one of all has its full size, though there are writers that cut it.
func (d *delta) endMini() {
	size := d.blockSize / d.minis * uint64(d.miniWidth) / 8
	d.b = d.b[min(size, uint64(len(d.b))):]
	d.miniWidth = 0
}

// rest decodes what is left and returns the bytes behind all values.
func (d *delta) rest() ([]byte, error) {
	for d.given < d.count {
		if _, err := d.next(); err != nil {
			return nil, err
		}
	}
	d.endMini()
	return d.b, nil
}
