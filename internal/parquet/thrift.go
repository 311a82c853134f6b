package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Types of Thrift's compact protocol.
const (
	thriftStop   = 0
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
)

var (
	errThrift    = errors.New("malformed metadata")
	errThriftEnd = fmt.Errorf("%w: it ends too early", errThrift)
)

// thriftReader reads the compact protocol from a slice. The first error stays;
// what is read behind it is zero.
type thriftReader struct {
	b     []byte
	at    int
	depth int
	err   error
}

// maxThriftDepth bounds nesting: the format's own is below 10.
const maxThriftDepth = 32

func (r *thriftReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *thriftReader) byte() byte {
	if r.err != nil || r.at >= len(r.b) {
		r.fail(errThriftEnd)
		return 0
	}
	r.at++
	return r.b[r.at-1]
}

func (r *thriftReader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 {
		r.fail(errThriftEnd)
		return 0
	}
	r.at += n
	return v
}

// int reads an integer of any width.
func (r *thriftReader) int() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *thriftReader) int32() int32 {
	v := r.int()
	if int64(int32(v)) != v {
		r.fail(errThrift)
	}
	return int32(v)
}

// binary returns bytes of the slice that is read.
func (r *thriftReader) binary() []byte {
	n := r.uvarint()
	if r.err != nil || n > uint64(len(r.b)-r.at) {
		r.fail(errThriftEnd)
		return nil
	}
	r.at += int(n)
	return r.b[r.at-int(n) : r.at]
}

func (r *thriftReader) text() string { return string(r.binary()) }

// structure reads a struct: field reads one value of the type, or returns
// false to have it skipped.
func (r *thriftReader) structure(field func(id int16, typ byte) bool) {
	if r.depth++; r.depth > maxThriftDepth {
		r.fail(fmt.Errorf("%w: nested too deep", errThrift))
	}
	id := int16(0)
	for r.err == nil {
		head := r.byte()
		if head == thriftStop {
			break
		}
		if delta := head >> 4; delta != 0 {
			id += int16(delta)
		} else {
			id = int16(r.int())
		}
		if typ := head & 0xf; r.err == nil && !field(id, typ) {
			r.skip(typ)
		}
	}
	r.depth--
}

// list reads the elements of a list of the wanted type with element. Each
// takes at least a byte, so that no list is longer than its bytes.
func (r *thriftReader) list(want byte, element func()) {
	n, typ := r.listHead()
	if r.err == nil && n > 0 && typ != want {
		r.fail(errThrift)
	}
	for i := uint64(0); i < n && r.err == nil; i++ {
		element()
	}
}

func (r *thriftReader) listHead() (n uint64, typ byte) {
	head := r.byte()
	if n = uint64(head >> 4); n == 15 {
		n = r.uvarint()
	}
	if n > uint64(len(r.b)-r.at) {
		r.fail(errThriftEnd)
		return 0, 0
	}
	return n, head & 0xf
}

// skip passes over a field's value.
func (r *thriftReader) skip(typ byte) {
	switch typ {
	case thriftTrue, thriftFalse: // the type is the value
	case thriftByte:
		r.byte()
	case thriftI16, thriftI32, thriftI64:
		r.uvarint()
	case thriftDouble:
		for range 8 {
			r.byte()
		}
	case thriftBinary:
		r.binary()
	case thriftList, thriftSet:
		if r.depth++; r.depth > maxThriftDepth {
			r.fail(fmt.Errorf("%w: nested too deep", errThrift))
		}
		n, elem := r.listHead()
		for i := uint64(0); i < n && r.err == nil; i++ {
			r.skipElement(elem)
		}
		r.depth--
	case thriftMap:
		n := r.uvarint()
		if n == 0 {
			return
		}
		types := r.byte()
		for i := uint64(0); i < n && r.err == nil; i++ {
			r.skipElement(types >> 4)
			r.skipElement(types & 0xf)
		}
	case thriftStruct:
		r.structure(func(int16, byte) bool { return false })
	default:
		r.fail(fmt.Errorf("%w: unknown type %d", errThrift, typ))
	}
}

// skipElement is skip in a list, where a bool takes a byte of its own.
func (r *thriftReader) skipElement(typ byte) {
	if typ == thriftTrue || typ == thriftFalse {
		r.byte()
		return
	}
	r.skip(typ)
}
