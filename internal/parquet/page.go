package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// MaxPage is the largest page that is read, in bytes when decompressed.
const MaxPage = 256 << 20

// Types of pages.
const (
	pageData       = 0
	pageDictionary = 2
	pageDataV2     = 3
)

// Encodings by their numbers in the format.
const (
	encPlain           = 0
	encPlainDictionary = 2
	encRLE             = 3
	encDelta           = 5
	encDeltaLength     = 6
	encDeltaBytes      = 7
	encDictionary      = 8
	encByteStreamSplit = 9
)

// pageHeader is what is read of a page's head.
type pageHeader struct {
	typ                  int32
	plain, packed        int32 // sizes, decompressed and as stored
	crc                  uint32
	hasCRC               bool
	values               int32
	encoding             int32
	defEncoding          int32
	repEncoding          int32
	defBytes, repBytes   int32 // V2: sizes of the levels
	valuesAreCompressed  bool  // V2
	hasValues, hasLevels bool
}

func readPageHeader(r *thriftReader) pageHeader {
	h := pageHeader{typ: -1, plain: -1, packed: -1, defEncoding: encRLE, repEncoding: encRLE, valuesAreCompressed: true}
	data := func(encoding int16, rest func(id int16, typ byte) bool) {
		r.structure(func(id int16, typ byte) bool {
			switch {
			case id == 1 && typ == thriftI32:
				h.values, h.hasValues = r.int32(), true
			case id == encoding && typ == thriftI32:
				h.encoding = r.int32()
			default:
				return rest(id, typ)
			}
			return true
		})
	}
	r.structure(func(id int16, typ byte) bool {
		switch {
		case id == 1 && typ == thriftI32:
			h.typ = r.int32()
		case id == 2 && typ == thriftI32:
			h.plain = r.int32()
		case id == 3 && typ == thriftI32:
			h.packed = r.int32()
		case id == 4 && typ == thriftI32:
			h.crc, h.hasCRC = uint32(r.int32()), true
		case id == 5 && typ == thriftStruct:
			data(2, func(id int16, typ byte) bool {
				switch {
				case id == 3 && typ == thriftI32:
					h.defEncoding = r.int32()
				case id == 4 && typ == thriftI32:
					h.repEncoding = r.int32()
				default:
					return false
				}
				return true
			})
		case id == 7 && typ == thriftStruct:
			data(2, func(int16, byte) bool { return false })
		case id == 8 && typ == thriftStruct:
			data(4, func(id int16, typ byte) bool {
				switch {
				case id == 5 && typ == thriftI32:
					h.defBytes, h.hasLevels = r.int32(), true
				case id == 6 && typ == thriftI32:
					h.repBytes = r.int32()
				case id == 7:
					h.valuesAreCompressed = typ == thriftTrue
				default:
					return false
				}
				return true
			})
		default:
			return false
		}
		return true
	})
	return h
}

// maxHeader bounds a page's head: it may hold the smallest and largest value.
const maxHeader = 16 << 20

// pages reads the pages of a column chunk one after the other.
type pages struct {
	file    *io.SectionReader
	at, end int64
	codec   int32
	head    []byte // read ahead for heads
}

// next returns the head of the next page and its bytes as stored, or io.EOF.
// What it returns is valid for good.
func (p *pages) next() (pageHeader, []byte, error) {
	if p.at >= p.end {
		return pageHeader{}, nil, io.EOF
	}
	h, n, err := p.header()
	if err != nil {
		return h, nil, fmt.Errorf("page head: %w", err)
	}
	p.at += n
	switch {
	case h.plain < 0 || h.packed < 0 || int64(h.packed) > p.end-p.at:
		return h, nil, fmt.Errorf("page head: %w: sizes %d and %d, with %d bytes left", errThrift, h.plain, h.packed, p.end-p.at)
	case h.plain > MaxPage || h.packed > MaxPage:
		return h, nil, fmt.Errorf("a page of %d bytes, the limit is %d", max(h.plain, h.packed), MaxPage)
	}
	b := make([]byte, h.packed)
	if _, err := p.file.ReadAt(b, p.at); err != nil {
		return h, nil, noEOF(err)
	}
	p.at += int64(h.packed)
	if h.hasCRC && crc32.ChecksumIEEE(b) != h.crc {
		return h, nil, errors.New("a page has another checksum than its header says")
	}
	return h, b, nil
}

// header reads the head at p.at and returns its size. How long it is shows
// only when it is read: the window grows until it fits.
func (p *pages) header() (pageHeader, int64, error) {
	for window := int64(256); ; window *= 8 {
		size := min(window, p.end-p.at, maxHeader)
		if int64(cap(p.head)) < size {
			p.head = make([]byte, size)
		}
		b := p.head[:size]
		if _, err := p.file.ReadAt(b, p.at); err != nil {
			return pageHeader{}, 0, noEOF(err)
		}
		r := &thriftReader{b: b}
		h := readPageHeader(r)
		if r.err == nil {
			return h, int64(r.at), nil
		}
		if !errors.Is(r.err, errThriftEnd) || size < window {
			return h, 0, r.err
		}
	}
}

// noEOF is the error of a file that is shorter than it says.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// levels splits the repetition and definition levels off a data page, which
// is decompressed where it is a V1 page. It returns what is behind them.
func (c *Column) levels(h pageHeader, b []byte) ([]byte, error) {
	take := func(on int, size int32) (*hybrid, error) {
		if size < 0 || int(size) > len(b) {
			return nil, fmt.Errorf("%w: levels of %d bytes in a page of %d", errThrift, size, len(b))
		}
		l := &hybrid{b: b[:size], width: bitsOf(on)}
		b = b[size:]
		return l, nil
	}
	var err error
	if h.typ == pageDataV2 {
		if c.rep, err = take(c.node.MaxRep, h.repBytes); err == nil {
			c.def, err = take(c.node.MaxDef, h.defBytes)
		}
		return b, err
	}
	c.rep, c.def = &hybrid{}, &hybrid{}
	for _, l := range []struct {
		dst      **hybrid
		on       int
		encoding int32
	}{{&c.rep, c.node.MaxRep, h.repEncoding}, {&c.def, c.node.MaxDef, h.defEncoding}} {
		if l.on == 0 {
			continue
		}
		if l.encoding != encRLE {
			return nil, fmt.Errorf("levels in the encoding %d are not supported", l.encoding)
		}
		if len(b) < 4 {
			return nil, errValues
		}
		size := binary.LittleEndian.Uint32(b)
		b = b[4:]
		if *l.dst, err = take(l.on, int32(min(size, 1<<31-1))); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// bitsOf is the width of numbers to n.
func bitsOf(n int) (bits uint) {
	for ; n > 0; n >>= 1 {
		bits++
	}
	return bits
}
