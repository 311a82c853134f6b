package safetensors

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// File is an opened file of tensors, which are read one by one.
type File struct {
	r     io.ReaderAt
	infos []Info
}

// Info describes a tensor of a file.
type Info struct {
	Name  string
	DType string // as the format spells it: "F32", "BF16", "I64"
	Shape []int

	offset int64 // in the file
	count  int64 // of values
}

// Open reads and checks the header of a file of that many bytes. What the
// header says fits the file exactly, or the error is [ErrFormat]: memory for
// a tensor of it is bounded by the file. r is used until the last Float32.
func Open(r io.ReaderAt, size int64) (*File, error) {
	section := io.NewSectionReader(r, 0, size)
	entries, _, err := readHeader(section)
	if err != nil {
		return nil, err
	}
	start, err := section.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	f, end := &File{r: r}, start
	for _, e := range entries {
		n, _ := values(e.Shape) // checked with the header
		f.infos = append(f.infos, Info{Name: e.name, DType: e.DType, Shape: e.Shape, offset: start + e.Offsets[0], count: n})
		end = start + e.Offsets[1]
	}
	if end != size {
		return nil, malformed("its tensors end at byte %d of %d", end, size)
	}
	return f, nil
}

// Tensors lists the tensors in the order of the file. The slice is the
// caller's.
func (f *File) Tensors() []Info { return slices.Clone(f.infos) }

// Float32 reads a tensor of this file into dst, which has as many values.
// float16 and bfloat16 become float32, which is exact; other dtypes than
// these three are an error.
func (f *File) Float32(dst []float32, t Info) error {
	if int64(len(dst)) != t.count {
		return fmt.Errorf("tensor %q has %d values; there is memory for %d", t.Name, t.count, len(dst))
	}
	if t.DType != "F32" && t.DType != "F16" && t.DType != "BF16" {
		return fmt.Errorf("tensor %q is of dtype %s, not F32, F16 or BF16", t.Name, t.DType)
	}
	width := widths[t.DType]
	r := io.NewSectionReader(f.r, t.offset, width*t.count)
	const chunk = 16 << 10
	buf := make([]byte, width*min(chunk, t.count))
	var halves []uint16
	if width == 2 {
		halves = make([]uint16, min(chunk, t.count))
	}
	for part := range slices.Chunk(dst, chunk) {
		b := buf[:width*int64(len(part))]
		if err := readFull(r, b, "the values of "+t.Name); err != nil {
			return err
		}
		if width == 4 {
			for i := range part {
				part[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
			}
			continue
		}
		h := halves[:len(part)]
		for i := range h {
			h[i] = binary.LittleEndian.Uint16(b[2*i:])
		}
		if t.DType == "F16" {
			kernels.FromFloat16(part, h)
			continue
		}
		for i, v := range h {
			part[i] = math.Float32frombits(uint32(v) << 16)
		}
	}
	return nil
}
