package parquet

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// WriteField is a column of a file that a [Writer] writes.
type WriteField struct {
	Name string
	Kind Kind
	// Length is the bytes of a value of FixedBytes.
	Length int
	// Text marks Bytes as UTF-8.
	Text bool
	// Optional columns may have nulls; not for lists.
	Optional bool
	// List makes a row a list of required values, all lists of one length.
	List bool
	// Compress writes pages with zstd, which pays for texts, not for
	// embeddings.
	Compress bool
}

// WritePage is some rows of a column.
type WritePage struct {
	Rows int
	// Valid says which rows of an optional column are no nulls; nil if all
	// are.
	Valid []bool
	// Length is that of every list, at least 1.
	Length int
	// Plain is the values in the PLAIN encoding, nulls left out.
	Plain []byte
}

// Writer writes a Parquet file of flat columns and lists: pages of version 1
// in the PLAIN encoding, with checksums. For every row group call Page for the
// pages of the first field, then EndColumn, the same for every other field,
// and EndGroup; at last call Close. It is not safe for concurrent use.
type Writer struct {
	w      io.Writer
	fields []WriteField
	at     int64 // bytes written
	rows   int64
	zstd   *zstd.Encoder
	buf    []byte

	chunk  writtenChunk // that is being written
	chunks []writtenChunk
	groups []writtenGroup
}

type writtenChunk struct {
	first                 int64 // offset of the first page
	values                int64
	uncompressed, written int64
}

type writtenGroup struct {
	rows   int64
	chunks []writtenChunk
}

// NewWriter begins a file.
func NewWriter(w io.Writer, fields []WriteField) (*Writer, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	pw := &Writer{w: w, fields: slices.Clone(fields), zstd: z}
	return pw, pw.write([]byte(magic))
}

func (w *Writer) write(b []byte) error {
	n, err := w.w.Write(b)
	w.at += int64(n)
	return err
}

// Page writes a page of the current column. Its rows must make less than
// 2 GiB.
func (w *Writer) Page(p WritePage) error {
	f := w.fields[len(w.chunks)]
	if w.chunk.first == 0 {
		w.chunk.first = w.at
	}
	values := p.Rows
	body := w.buf[:0]
	switch {
	case f.List:
		values = p.Rows * p.Length
		body = appendLevels(body, func(b []byte) []byte {
			for range p.Rows { // a list begins with level 0, and goes on with 1
				b = appendRun(b, 1, 0)
				b = appendRun(b, p.Length-1, 1)
			}
			return b
		})
		body = appendLevels(body, func(b []byte) []byte { return appendRun(b, values, 1) })
	case f.Optional && p.Valid == nil:
		body = appendLevels(body, func(b []byte) []byte { return appendRun(b, p.Rows, 1) })
	case f.Optional:
		body = appendLevels(body, func(b []byte) []byte {
			for i := 0; i < p.Rows; {
				k := i + 1
				for k < p.Rows && p.Valid[k] == p.Valid[i] {
					k++
				}
				level := byte(0)
				if p.Valid[i] {
					level = 1
				}
				b = appendRun(b, k-i, level)
				i = k
			}
			return b
		})
	}
	parts := [2][]byte{body, p.Plain}
	size := len(body) + len(p.Plain)
	w.buf = body
	if f.Compress {
		w.buf = append(body, p.Plain...)
		parts = [2][]byte{w.zstd.EncodeAll(w.buf, nil)}
	}
	written := len(parts[0]) + len(parts[1])
	if int64(size) > 1<<31-1 || int64(written) > 1<<31-1 {
		return fmt.Errorf("a page of column %q has %d bytes, more than Parquet allows", f.Name, size)
	}
	crc := crc32.Update(crc32.ChecksumIEEE(parts[0]), crc32.IEEETable, parts[1])
	var t compact
	t.i32(1, 0) // DATA_PAGE
	t.i32(2, int32(size))
	t.i32(3, int32(written))
	t.i32(4, int32(crc))
	t.begin(5)
	t.i32(1, int32(values))
	t.i32(2, 0) // PLAIN
	t.i32(3, 3) // levels are RLE
	t.i32(4, 3)
	t.end()
	t.stop()
	for _, b := range [][]byte{t.b, parts[0], parts[1]} {
		if err := w.write(b); err != nil {
			return err
		}
	}
	w.chunk.values += int64(values)
	w.chunk.uncompressed += int64(len(t.b) + size)
	w.chunk.written += int64(len(t.b) + written)
	return nil
}

// EndColumn goes on to the next column of the row group.
func (w *Writer) EndColumn() {
	w.chunks = append(w.chunks, w.chunk)
	w.chunk = writtenChunk{}
}

// EndGroup ends a row group of so many rows.
func (w *Writer) EndGroup(rows int) error {
	if len(w.chunks) != len(w.fields) {
		return fmt.Errorf("a row group of %d columns in a file of %d", len(w.chunks), len(w.fields))
	}
	w.groups = append(w.groups, writtenGroup{int64(rows), w.chunks})
	w.rows += int64(rows)
	w.chunks = nil
	return nil
}

// Close writes the footer. The underlying writer is not closed.
func (w *Writer) Close(keys, values []string) error {
	var t compact
	t.i32(1, 2) // version
	w.schema(&t)
	t.i64(3, w.rows)
	t.list(4, thriftStruct, len(w.groups))
	for _, g := range w.groups {
		w.group(&t, g)
	}
	if len(keys) > 0 {
		t.list(5, thriftStruct, len(keys))
		for i := range keys {
			t.element()
			t.text(1, keys[i])
			t.text(2, values[i])
			t.end()
		}
	}
	t.text(6, "permafrost")
	t.stop()
	t.b = binary.LittleEndian.AppendUint32(t.b, uint32(len(t.b)))
	return w.write(append(t.b, magic...))
}

const (
	required, optional, repeated = 0, 1, 2
	convertedUTF8, convertedList = 0, 3
	logicalString, logicalList   = 1, 3
)

func (w *Writer) schema(t *compact) {
	n := 1
	for _, f := range w.fields {
		if n++; f.List {
			n += 2
		}
	}
	t.list(2, thriftStruct, n)
	t.element()
	t.text(4, "schema")
	t.i32(5, int32(len(w.fields)))
	t.end()
	for _, f := range w.fields {
		name := f.Name
		if f.List {
			t.element()
			t.i32(3, required)
			t.text(4, f.Name)
			t.i32(5, 1)
			t.i32(6, convertedList)
			t.logical(logicalList)
			t.end()
			t.element()
			t.i32(3, repeated)
			t.text(4, "list")
			t.i32(5, 1)
			t.end()
			name = "element"
		}
		t.element()
		t.i32(1, int32(f.Kind))
		if f.Kind == FixedBytes {
			t.i32(2, int32(f.Length))
		}
		if f.Optional {
			t.i32(3, optional)
		} else {
			t.i32(3, required)
		}
		t.text(4, name)
		if f.Text {
			t.i32(6, convertedUTF8)
			t.logical(logicalString)
		}
		t.end()
	}
}

func (w *Writer) group(t *compact, g writtenGroup) {
	var uncompressed, written int64
	t.element()
	t.list(1, thriftStruct, len(g.chunks))
	for i, c := range g.chunks {
		f := w.fields[i]
		path, codec := []string{f.Name}, int32(codecNone)
		if f.List {
			path = append(path, "list", "element")
		}
		if f.Compress {
			codec = codecZstd
		}
		t.element()
		t.i64(2, c.first)
		t.begin(3)
		t.i32(1, int32(f.Kind))
		t.list(2, thriftI32, 2)
		t.zigzag(0) // PLAIN
		t.zigzag(3) // RLE
		t.list(3, thriftBinary, len(path))
		for _, p := range path {
			t.bytes(p)
		}
		t.i32(4, codec)
		t.i64(5, c.values)
		t.i64(6, c.uncompressed)
		t.i64(7, c.written)
		t.i64(9, c.first)
		t.end()
		t.end()
		uncompressed += c.uncompressed
		written += c.written
	}
	t.i64(2, uncompressed)
	t.i64(3, g.rows)
	if len(g.chunks) > 0 {
		t.i64(5, g.chunks[0].first)
	}
	t.i64(6, written)
	t.end()
}

// appendLevels appends levels in runs, with their length before them.
func appendLevels(dst []byte, runs func([]byte) []byte) []byte {
	at := len(dst)
	dst = runs(append(dst, 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// appendRun appends n times the same level of one bit.
func appendRun(dst []byte, n int, level byte) []byte {
	if n == 0 {
		return dst
	}
	return append(binary.AppendUvarint(dst, uint64(n)<<1), level)
}

// compact writes Thrift's compact protocol.
type compact struct {
	b     []byte
	last  int16 // number of the field before
	outer []int16
}

func (t *compact) field(id int16, typ byte) {
	if d := id - t.last; d > 0 && d < 16 {
		t.b = append(t.b, byte(d)<<4|typ)
	} else {
		t.b = binary.AppendVarint(append(t.b, typ), int64(id))
	}
	t.last = id
}

func (t *compact) zigzag(v int64) { t.b = binary.AppendVarint(t.b, v) }

func (t *compact) i32(id int16, v int32) {
	t.field(id, thriftI32)
	t.zigzag(int64(v))
}

func (t *compact) i64(id int16, v int64) {
	t.field(id, thriftI64)
	t.zigzag(v)
}

func (t *compact) bytes(s string) {
	t.b = append(binary.AppendUvarint(t.b, uint64(len(s))), s...)
}

func (t *compact) text(id int16, s string) {
	t.field(id, thriftBinary)
	t.bytes(s)
}

func (t *compact) list(id int16, elem byte, n int) {
	t.field(id, thriftList)
	if n < 15 {
		t.b = append(t.b, byte(n)<<4|elem)
		return
	}
	t.b = binary.AppendUvarint(append(t.b, 0xf0|elem), uint64(n))
}

// element begins a struct in a list, begin one in a field; end ends either.
func (t *compact) element() {
	t.outer = append(t.outer, t.last)
	t.last = 0
}

func (t *compact) begin(id int16) {
	t.field(id, thriftStruct)
	t.element()
}

func (t *compact) end() {
	t.stop()
	t.last = t.outer[len(t.outer)-1]
	t.outer = t.outer[:len(t.outer)-1]
}

func (t *compact) stop() { t.b = append(t.b, 0) }

// logical writes a logical type without parameters.
func (t *compact) logical(kind int16) {
	t.begin(10)
	t.begin(kind)
	t.end()
	t.end()
}
