package protowire

import (
	"errors"
	"fmt"
	"io"
)

// Reader reads a message from a file without holding it: big fields are
// stepped over.
type Reader struct {
	r       io.ReaderAt
	at, end int64  // what is left of the message
	buf     []byte // of the file, from bufAt on
	bufAt   int64
}

// maxText is how long a text may be.
const maxText = 1 << 20

// ErrFormat is returned for bytes that are no whole message.
var ErrFormat = errors.New("not a whole Protocol Buffers message")

// NewReader returns a reader of the message of a file of that many bytes.
func NewReader(r io.ReaderAt, size int64) *Reader { return &Reader{r: r, end: size} }

func (r *Reader) byte() (byte, error) {
	if r.at >= r.end {
		return 0, ErrFormat
	}
	if i := r.at - r.bufAt; i >= 0 && i < int64(len(r.buf)) {
		r.at++
		return r.buf[i], nil
	}
	if r.buf == nil {
		r.buf = make([]byte, 4096)
	}
	n, err := r.r.ReadAt(r.buf[:cap(r.buf)], r.at)
	if n == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			err = ErrFormat
		}
		return 0, err
	}
	r.buf, r.bufAt = r.buf[:n], r.at
	r.at++
	return r.buf[0], nil
}

func (r *Reader) varint() (v uint64, err error) {
	for shift := 0; shift < 64; shift += 7 {
		b, err := r.byte()
		if err != nil {
			return 0, err
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, ErrFormat
}

// Kinds of fields on the wire.
const (
	Varint = 0
	Fixed8 = 1
	Bytes  = 2
	Fixed4 = 5
)

// Field is one field of a message: a number, or the place of its bytes.
type Field struct {
	Number int
	Kind   int
	Value  uint64 // of a Varint
	// Start is where the field begins in the file, From where its bytes do,
	// and To where it ends.
	Start, From, To int64
}

// next returns the next field of the message and moves behind it; it is false
// at the end.
func (r *Reader) next() (f Field, ok bool, err error) {
	if r.at >= r.end {
		return f, false, nil
	}
	f.Start = r.at
	tag, err := r.varint()
	if err != nil {
		return f, false, err
	}
	f.Number, f.Kind = int(tag>>3), int(tag&7)
	if tag>>3 == 0 || tag>>3 > 1<<29 {
		return f, false, ErrFormat
	}
	size := uint64(0)
	switch f.Kind {
	case Varint:
		f.Value, err = r.varint()
		f.To = r.at
		return f, err == nil, err
	case Fixed8:
		size = 8
	case Fixed4:
		size = 4
	case Bytes:
		if size, err = r.varint(); err != nil {
			return f, false, err
		}
	default:
		return f, false, ErrFormat
	}
	if size > uint64(r.end-r.at) {
		return f, false, ErrFormat
	}
	f.From = r.at
	r.at += int64(size)
	f.To = r.at
	return f, true, nil
}

// Each calls fn for every field of the message.
func (r *Reader) Each(fn func(f Field) error) error {
	for {
		f, ok, err := r.next()
		if !ok || err != nil {
			return err
		}
		if err := fn(f); err != nil {
			return err
		}
	}
}

// Message calls fn for every field of the message that a field is, and comes
// back behind it.
func (r *Reader) Message(f Field, fn func(f Field) error) error {
	if f.Kind != Bytes {
		return ErrFormat
	}
	at, end := r.at, r.end
	r.at, r.end = f.From, f.To
	err := r.Each(fn)
	r.at, r.end = at, end
	return err
}

// Text returns the bytes of a field.
func (r *Reader) Text(f Field) (string, error) {
	if f.Kind != Bytes {
		return "", ErrFormat
	}
	if f.To-f.From > maxText {
		return "", fmt.Errorf("a text of %d bytes", f.To-f.From)
	}
	b := make([]byte, f.To-f.From)
	if _, err := r.r.ReadAt(b, f.From); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(b), nil
}
