package protowire

import (
	"encoding/binary"
	"math"
)

// AppendInt appends a field that is a number: an integer, an enum or a bool.
func AppendInt(b []byte, number int, v int64) []byte {
	return binary.AppendUvarint(appendTag(b, number, Varint), uint64(v))
}

// AppendFloat appends a field that is a float.
func AppendFloat(b []byte, number int, v float32) []byte {
	return binary.LittleEndian.AppendUint32(appendTag(b, number, Fixed4), math.Float32bits(v))
}

// AppendBytes appends a field that is a text, bytes or a message.
func AppendBytes[T string | []byte](b []byte, number int, v T) []byte {
	return append(AppendHeader(b, number, int64(len(v))), v...)
}

// AppendHeader appends the beginning of a field of that many bytes, which are
// to follow.
func AppendHeader(b []byte, number int, size int64) []byte {
	return binary.AppendUvarint(appendTag(b, number, Bytes), uint64(size))
}

func appendTag(b []byte, number, kind int) []byte {
	return binary.AppendUvarint(b, uint64(number)<<3|uint64(kind))
}
