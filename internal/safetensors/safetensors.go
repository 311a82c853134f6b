// Package safetensors writes and reads named tensors in the safetensors
// format: the length of a JSON header (8 bytes, little endian), the header,
// which gives every tensor's dtype, shape and place, and then the values,
// little endian and without gaps. [Write] and [Read] are for files of float32
// tensors, [File] is for picking tensors of several dtypes.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Tensor is a named array.
type Tensor struct {
	Name  string
	Shape []int     // no sizes below 0; empty for a single value
	Data  []float32 // in row-major order, as many as Shape says
}

const (
	dtype       = "F32"
	metadataKey = "__metadata__"
	// maxHeader bounds the memory that a file can ask for before anything
	// of it has been checked.
	maxHeader = 8 << 20
	// chunk is the number of values converted at a time.
	chunk = 4096
)

// widths are the bytes of one value, by dtype.
var widths = map[string]int64{
	"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
	"U16": 2, "I16": 2, "F16": 2, "BF16": 2,
	"U32": 4, "I32": 4, "F32": 4,
	"U64": 8, "I64": 8, "F64": 8,
}

// entry is a tensor's place in the header. Its offsets are in bytes from
// the end of the header.
type entry struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
	name    string
}

// Write writes tensors in the order of their names, so that equal tensors
// give equal bytes. metadata may be nil.
func Write(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	tensors = byName(tensors)
	for _, t := range tensors {
		if n, err := values(t.Shape); err != nil || n != int64(len(t.Data)) {
			return fmt.Errorf("tensor %q of shape %v has %d values", t.Name, t.Shape, len(t.Data))
		}
	}
	if err := WriteHeader(w, tensors, metadata); err != nil {
		return err
	}
	for _, t := range tensors {
		if err := WriteValues(w, t.Data); err != nil {
			return err
		}
	}
	return nil
}

// WriteHeader writes the beginning of a file of the given tensors, whose Data
// is not read: their values must follow, in the order of their names, by
// [WriteValues] in any number of calls. metadata may be nil.
func WriteHeader(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	tensors = byName(tensors)
	header := []byte{'{'}
	if len(metadata) > 0 {
		header = appendField(header, metadataKey, metadata)
	}
	var at int64
	for i, t := range tensors {
		if t.Name == metadataKey || t.Name == "" || i > 0 && t.Name == tensors[i-1].Name {
			return fmt.Errorf("tensor name %q is empty, reserved or there twice", t.Name)
		}
		n, err := values(t.Shape)
		if err != nil {
			return fmt.Errorf("tensor %q of shape %v: %w", t.Name, t.Shape, err)
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		header = appendField(header, t.Name, entry{DType: dtype, Shape: shape, Offsets: [2]int64{at, at + 4*n}})
		at += 4 * n
	}
	header = append(header, '}')
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	if len(header) > maxHeader {
		return fmt.Errorf("the header has %d bytes, more than %d", len(header), maxHeader)
	}
	_, err := w.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...))
	return err
}

func byName(tensors []Tensor) []Tensor {
	tensors = slices.Clone(tensors)
	slices.SortFunc(tensors, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
	return tensors
}

// WriteValues writes values as the format stores them.
func WriteValues(w io.Writer, data []float32) error {
	buf := make([]byte, 0, 4*min(chunk, len(data)))
	for part := range slices.Chunk(data, chunk) {
		buf = buf[:0]
		for _, v := range part {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

// appendField appends a field to a JSON object that is being written. The
// values are such that encoding them cannot go wrong.
func appendField(dst []byte, name string, value any) []byte {
	if len(dst) > 1 {
		dst = append(dst, ',')
	}
	key, _ := json.Marshal(name)
	val, _ := json.Marshal(value)
	return append(append(append(dst, key...), ':'), val...)
}

// ErrFormat is returned, wrapped, for data that are no valid safetensors
// file.
var ErrFormat = errors.New("not a valid safetensors file")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// Read reads a file to its end. For every tensor, in the order of the file,
// it calls dst, which returns the memory for its values, as many as shape
// says, or an error that ends the reading. The whole header has been checked
// before the first call, so memory is bounded by 8 MiB, and a small multiple
// of that for the parsed header, plus what dst allocates. Anything else than
// a valid file of float32 tensors is [ErrFormat]; a file that ends early is
// that, too.
func Read(r io.Reader, dst func(name string, shape []int) ([]float32, error)) (metadata map[string]string, err error) {
	entries, metadata, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.DType != dtype {
			return nil, malformed("tensor %q is of dtype %q", e.name, e.DType)
		}
	}
	buf := make([]byte, 4*chunk)
	for _, e := range entries {
		out, err := dst(e.name, e.Shape)
		if err != nil {
			return nil, err
		}
		if n := (e.Offsets[1] - e.Offsets[0]) / 4; int64(len(out)) != n {
			return nil, fmt.Errorf("tensor %q has %d values; there is memory for %d", e.name, n, len(out))
		}
		for part := range slices.Chunk(out, chunk) {
			b := buf[:4*len(part)]
			if err := readFull(r, b, "the values of "+e.name); err != nil {
				return nil, err
			}
			for i := range part {
				part[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
			}
		}
	}
	if _, err := io.ReadFull(r, buf[:1]); err == nil {
		return nil, malformed("there are bytes behind the last tensor")
	} else if err != io.EOF {
		return nil, err
	}
	return metadata, nil
}

func readFull(r io.Reader, b []byte, what string) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return malformed("it ends within %s", what)
	}
	return err
}

func readHeader(r io.Reader) ([]entry, map[string]string, error) {
	var size [8]byte
	if err := readFull(r, size[:], "the header's length"); err != nil {
		return nil, nil, err
	}
	n := binary.LittleEndian.Uint64(size[:])
	if n > maxHeader {
		return nil, nil, malformed("the header has %d bytes, more than %d", n, maxHeader)
	}
	header := make([]byte, n)
	if err := readFull(r, header, "the header"); err != nil {
		return nil, nil, err
	}
	entries, metadata, err := parseHeader(header)
	if err != nil {
		return nil, nil, malformed("header: %v", err)
	}
	slices.SortFunc(entries, func(a, b entry) int {
		if a.Offsets[0] != b.Offsets[0] {
			return int(min(max(a.Offsets[0]-b.Offsets[0], -1), 1))
		}
		// Tensors without values share an offset with their neighbours.
		return int(min(max(a.Offsets[1]-b.Offsets[1], -1), 1))
	})
	var at int64
	for _, e := range entries {
		n, err := values(e.Shape)
		width := widths[e.DType]
		switch {
		case width == 0:
			return nil, nil, malformed("tensor %q is of dtype %q", e.name, e.DType)
		case err != nil:
			return nil, nil, malformed("tensor %q: %v", e.name, err)
		case e.Offsets[0] != at || e.Offsets[1]-at != width*n || e.Offsets[1] < at:
			return nil, nil, malformed("tensor %q of shape %v lies at %v where %v was to be", e.name, e.Shape, e.Offsets, [2]int64{at, at + width*n})
		}
		at += width * n
	}
	return entries, metadata, nil
}

func parseHeader(b []byte) (entries []entry, metadata map[string]string, err error) {
	if len(b) == 0 || b[0] != '{' {
		return nil, nil, errors.New("it is no JSON object")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if _, err := dec.Token(); err != nil {
		return nil, nil, err
	}
	seen := map[string]bool{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, nil, err
		}
		name, _ := key.(string) // keys are strings, or Token had failed
		if seen[name] {
			return nil, nil, fmt.Errorf("%q is there twice", name)
		}
		seen[name] = true
		if name == metadataKey {
			err = dec.Decode(&metadata)
		} else {
			e := entry{name: name, Offsets: [2]int64{-1, -1}}
			err = dec.Decode(&e)
			entries = append(entries, e)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%q: %w", name, err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, nil, errors.New("there is more than one JSON value")
	}
	return entries, metadata, nil
}

// values is the number of values of a shape.
func values(shape []int) (int64, error) {
	n := int64(1)
	for _, s := range shape {
		if s < 0 {
			return 0, fmt.Errorf("shape %v has a size below 0", shape)
		}
		// 2^58 values are at most 2^61 bytes, so that offsets never overflow.
		if s > 0 && n > (1<<58)/int64(s) {
			return 0, fmt.Errorf("shape %v is too large", shape)
		}
		n *= int64(s)
	}
	return n, nil
}
