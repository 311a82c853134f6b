package onnx

import "unsafe"

// align is that of the memory that runs read and write: a cache line, and the
// width of the widest vector registers.
const align = 64

// slab is memory for one input or output of runs, used again and again.
type slab struct{ bytes []byte }

// room returns n aligned bytes, whose content is left over from before.
func (s *slab) room(n int) []byte {
	if n > len(s.bytes) {
		b := make([]byte, n+n/4+align)
		skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (align - 1)
		s.bytes = b[skip:]
	}
	return s.bytes[:n]
}

// view is aligned memory as values of a type.
func view[T int32 | int64 | uint16 | float32](b []byte) []T {
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(zero)))
}

// raw is the memory of values.
func raw[T uint16 | float32](values []T) []byte {
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(zero)))
}

// tensor is what a run is given, or room for what it gives.
type tensor struct {
	elem  elem
	shape []int64
	data  []byte // aligned
}

// count is the number of values of a shape.
func count(shape []int64) int {
	n := 1
	for _, d := range shape {
		n *= int(d)
	}
	return n
}
