package onnx

import (
	"errors"
	"fmt"
	"io"
)

// wire reads a Protocol Buffers message from a file without holding it: big
// fields are stepped over.
type wire struct {
	r       io.ReaderAt
	at, end int64
	buf     []byte // of the file, from bufAt on
	bufAt   int64
}

// maxText is how long a name in a graph may be.
const maxText = 1 << 20

var errWire = errors.New("not a whole Protocol Buffers message")

func (w *wire) byte() (byte, error) {
	if w.at >= w.end {
		return 0, errWire
	}
	if i := w.at - w.bufAt; i >= 0 && i < int64(len(w.buf)) {
		w.at++
		return w.buf[i], nil
	}
	if w.buf == nil {
		w.buf = make([]byte, 4096)
	}
	n, err := w.r.ReadAt(w.buf[:cap(w.buf)], w.at)
	if n == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			err = errWire
		}
		return 0, err
	}
	w.buf, w.bufAt = w.buf[:n], w.at
	w.at++
	return w.buf[0], nil
}

func (w *wire) varint() (v uint64, err error) {
	for shift := 0; shift < 64; shift += 7 {
		b, err := w.byte()
		if err != nil {
			return 0, err
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errWire
}

// Wire types.
const (
	typeVarint = 0
	typeFixed8 = 1
	typeBytes  = 2
	typeFixed4 = 5
)

// field is one field of a message: a number, or the place of its bytes.
type field struct {
	number   int
	kind     int
	value    uint64
	from, to int64
}

// next returns the next field of the message and moves behind it; it is false
// at the end.
func (w *wire) next() (f field, ok bool, err error) {
	if w.at >= w.end {
		return f, false, nil
	}
	tag, err := w.varint()
	if err != nil {
		return f, false, err
	}
	f.number, f.kind = int(tag>>3), int(tag&7)
	if tag>>3 == 0 || tag>>3 > 1<<29 {
		return f, false, errWire
	}
	size := uint64(0)
	switch f.kind {
	case typeVarint:
		f.value, err = w.varint()
		return f, err == nil, err
	case typeFixed8:
		size = 8
	case typeFixed4:
		size = 4
	case typeBytes:
		if size, err = w.varint(); err != nil {
			return f, false, err
		}
	default:
		return f, false, errWire
	}
	if size > uint64(w.end-w.at) {
		return f, false, errWire
	}
	f.from = w.at
	w.at += int64(size)
	f.to = w.at
	return f, true, nil
}

// each calls fn for every field of the message.
func (w *wire) each(fn func(f field) error) error {
	for {
		f, ok, err := w.next()
		if !ok || err != nil {
			return err
		}
		if err := fn(f); err != nil {
			return err
		}
	}
}

// message calls fn for every field of the message that a field is, and comes
// back behind it.
func (w *wire) message(f field, fn func(f field) error) error {
	if f.kind != typeBytes {
		return errWire
	}
	at, end := w.at, w.end
	w.at, w.end = f.from, f.to
	err := w.each(fn)
	w.at, w.end = at, end
	return err
}

// text returns the bytes of a field.
func (w *wire) text(f field) (string, error) {
	if f.kind != typeBytes {
		return "", errWire
	}
	if f.to-f.from > maxText {
		return "", fmt.Errorf("a name of %d bytes", f.to-f.from)
	}
	b := make([]byte, f.to-f.from)
	if _, err := w.r.ReadAt(b, f.from); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(b), nil
}
