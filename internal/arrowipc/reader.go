package arrowipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Headers of messages, by their numbers in the format.
const (
	headerSchema     = 1
	headerDictionary = 2
	headerBatch      = 3
)

// version5 is the version of the format since which unions have no validity.
const version5 = 4

const (
	fileMagic    = "ARROW1"
	continuation = 0xffffffff
	maxMetadata  = 64 << 20
)

var errCut = errors.New("it is cut: the end-of-stream marker is missing")

// Reader reads the record batches of a file or stream in order. It is not
// safe for concurrent use.
type Reader struct {
	// Fields are the columns.
	Fields []*Field
	// Limit bounds a buffer that is read, in bytes when decompressed; more is
	// an error. Open sets it to MaxBuffer.
	Limit int64

	r      io.ReaderAt
	size   int64
	want   []bool
	stream bool
	at     int64 // of a stream: the next message

	blocks       []block // of a file: the record batches to come
	dictBlocks   []block
	dictionaries map[int64]*dictionary
	dictFields   map[int64]*Field // what the values of each are
	wanted       map[int64]bool
	err          error
}

// block is where the footer of a file says that a message is.
type block struct{ at, meta, body int64 }

// Open reads the schema of a file or stream of the given size.
func Open(r io.ReaderAt, size int64) (*Reader, error) {
	d := &Reader{Limit: MaxBuffer, r: r, size: size, dictionaries: map[int64]*dictionary{}, dictFields: map[int64]*Field{}, wanted: map[int64]bool{}}
	var head [8]byte
	if size < 8 {
		return nil, errors.New("too short for an Arrow file or stream")
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, noEOF(err)
	}
	var err error
	switch {
	case string(head[:6]) == fileMagic:
		err = d.footer()
	case string(head[:4]) == "FEA1":
		err = errors.New("it is of Feather version 1; write it as version 2")
	default:
		d.stream = true
		err = d.streamSchema()
	}
	if err != nil {
		return nil, err
	}
	if err := d.findDictionaries(d.Fields, 0); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Reader) footer() error {
	var tail [10]byte
	if d.size < int64(8+len(tail)) {
		return errors.New("it is cut, its footer is missing")
	}
	if _, err := d.r.ReadAt(tail[:], d.size-int64(len(tail))); err != nil {
		return noEOF(err)
	}
	if string(tail[4:]) != fileMagic {
		return errors.New("it is cut, its footer is missing")
	}
	n := int64(int32(binary.LittleEndian.Uint32(tail[:])))
	if n < 0 || n > min(maxMetadata, d.size-18) {
		return fmt.Errorf("footer: %w: %d bytes in a file of %d", errFlat, n, d.size)
	}
	b := make([]byte, n)
	if _, err := d.r.ReadAt(b, d.size-10-n); err != nil {
		return noEOF(err)
	}
	t := root(b)
	var err error
	if d.Fields, err = readSchema(t.table(1)); err != nil {
		return fmt.Errorf("footer: %w", err)
	}
	if d.dictBlocks, err = d.readBlocks(t, 2); err == nil {
		d.blocks, err = d.readBlocks(t, 3)
	}
	if err == nil {
		err = t.f.err
	}
	if err != nil {
		return fmt.Errorf("footer: %w", err)
	}
	return nil
}

func (d *Reader) readBlocks(t table, slot int) ([]block, error) {
	at, n := t.vector(slot, 24)
	var blocks []block
	for i := range n {
		b := block{t.f.i64(at + 24*i), int64(t.f.i32(at + 24*i + 8)), t.f.i64(at + 24*i + 16)}
		if b.at < 0 || b.meta < 0 || b.body < 0 || b.meta > maxMetadata || b.at > d.size || b.meta > d.size-b.at || b.body > d.size-b.at-b.meta {
			return nil, fmt.Errorf("%w: a block of %d and %d bytes at %d", errFlat, b.meta, b.body, b.at)
		}
		blocks = append(blocks, b)
	}
	return blocks, nil
}

func (d *Reader) streamSchema() error {
	m, err := d.nextMessage()
	switch {
	case err != nil:
		return fmt.Errorf("not an Arrow file or stream: %w", err)
	case m == nil || m.typ != headerSchema:
		return errors.New("not an Arrow file or stream: it does not begin with a schema")
	}
	d.Fields, err = readSchema(m.header)
	return err
}

// message is a message of a stream.
type message struct {
	typ    byte
	old    bool
	header table
	body   int64 // where it is
	size   int64
}

// nextMessage reads the metadata of a stream's next message; nil at the end.
func (d *Reader) nextMessage() (*message, error) {
	var head [8]byte
	short := d.size-d.at < 8
	if d.size-d.at < 4 {
		return nil, errCut
	}
	if _, err := d.r.ReadAt(head[:min(8, d.size-d.at)], d.at); err != nil {
		return nil, noEOF(err)
	}
	at, n := d.at+4, binary.LittleEndian.Uint32(head[:])
	if n == continuation {
		if short {
			return nil, errCut
		}
		at, n = d.at+8, binary.LittleEndian.Uint32(head[4:])
	}
	if n == 0 {
		if at != d.size {
			return nil, fmt.Errorf("%d bytes behind the end of the stream", d.size-at)
		}
		return nil, nil
	}
	if int64(n) > min(maxMetadata, d.size-at) {
		return nil, fmt.Errorf("a message of %d bytes, %d are left", n, d.size-at)
	}
	m, err := d.message(at, int64(n))
	if err != nil {
		return nil, err
	}
	d.at = m.body + m.size
	return m, nil
}

// message reads the n bytes of metadata at a place, behind which the body is.
func (d *Reader) message(at, n int64) (*message, error) {
	b := make([]byte, n)
	if _, err := d.r.ReadAt(b, at); err != nil {
		return nil, noEOF(err)
	}
	t := root(b)
	m := &message{typ: t.byte(1), old: t.i16(0, 0) < version5, header: t.table(2), body: at + n, size: t.i64(3)}
	switch {
	case t.f.err != nil:
		return nil, t.f.err
	case m.header.absent():
		return nil, fmt.Errorf("%w: a message without content", errFlat)
	case m.size < 0 || m.size > d.size-m.body:
		return nil, fmt.Errorf("%w: a body of %d bytes, %d are left", errFlat, m.size, d.size-m.body)
	}
	return m, nil
}

// blockMessage reads a message of a file.
func (d *Reader) blockMessage(b block) (*message, error) {
	var head [8]byte
	if b.meta < 8 {
		return nil, fmt.Errorf("%w: a message of %d bytes", errFlat, b.meta)
	}
	if _, err := d.r.ReadAt(head[:], b.at); err != nil {
		return nil, noEOF(err)
	}
	skip := int64(4) // before the format had continuation marks
	if binary.LittleEndian.Uint32(head[:]) == continuation {
		skip = 8
	}
	m, err := d.message(b.at+skip, b.meta-skip)
	if err != nil {
		return nil, err
	}
	m.size = min(m.size, b.body)
	return m, nil
}

// findDictionaries notes which fields have which dictionaries.
func (d *Reader) findDictionaries(fields []*Field, depth int) error {
	for _, f := range fields {
		if f.dictionary {
			values := *f
			values.dictionary, values.index = false, nil
			if old := d.dictFields[f.dictID]; old != nil && old.Type != values.Type {
				return fmt.Errorf("%w: two kinds of values in dictionary %d", errFlat, f.dictID)
			}
			if d.dictFields[f.dictID] == nil {
				d.dictFields[f.dictID] = &values
			}
		}
		if err := d.findDictionaries(f.Children, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// Want chooses the columns that are read, by their numbers, before the first
// record batch.
func (d *Reader) Want(columns []int) error {
	d.want = make([]bool, len(d.Fields))
	var mark func(f *Field)
	mark = func(f *Field) {
		if f.dictionary {
			d.wanted[f.dictID] = true
		}
		for _, c := range f.Children {
			mark(c)
		}
	}
	for _, c := range columns {
		d.want[c] = true
		mark(d.Fields[c])
	}
	for _, b := range d.dictBlocks {
		m, err := d.blockMessage(b)
		if err == nil && m.typ != headerDictionary {
			err = fmt.Errorf("%w: a message of the kind %d", errFlat, m.typ)
		}
		if err == nil {
			err = d.dictionary(m)
		}
		if err != nil {
			return fmt.Errorf("dictionary: %w", err)
		}
	}
	return nil
}

// dictionary takes the values of a dictionary, new ones or more of them.
func (d *Reader) dictionary(m *message) error {
	id := m.header.i64(0)
	f := d.dictFields[id]
	if f == nil {
		return fmt.Errorf("%w: no column has the dictionary %d", errFlat, id)
	}
	if !d.wanted[id] {
		return nil
	}
	b, err := d.batch(m, m.header.table(1))
	if err != nil {
		return err
	}
	a, err := d.load(b, f, true)
	if err != nil {
		return err
	}
	old := d.dictionaries[id]
	if !m.header.bool(2) {
		if old != nil && !d.stream {
			return fmt.Errorf("%w: a file has the dictionary %d twice", errFlat, id)
		}
		old = nil
	}
	dict := &dictionary{}
	end := int64(0)
	if old != nil {
		dict.parts, dict.ends = append(dict.parts, old.parts...), append(dict.ends, old.ends...)
		end = old.ends[len(old.ends)-1]
	}
	dict.parts, dict.ends = append(dict.parts, a), append(dict.ends, end+a.Len)
	for _, p := range dict.parts {
		dict.size += p.size()
	}
	if dict.size > MaxBuffer {
		return fmt.Errorf("over %d bytes", MaxBuffer)
	}
	d.dictionaries[id] = dict
	return nil
}

func (d *Reader) batch(m *message, t table) (*batch, error) {
	if t.absent() {
		return nil, fmt.Errorf("%w: without content", errBatch)
	}
	b := &batch{table: t, r: d.r, body: m.body, size: m.size, old: m.old, rows: t.i64(slotLength), most: d.Limit}
	if b.rows < 0 || b.rows > maxRows || t.f.err != nil {
		return nil, fmt.Errorf("%w: %d rows", errBatch, b.rows)
	}
	return b, nil
}

// Next reads the next record batch: the wanted columns in the order of the
// schema, and its number of rows. The error is io.EOF at the end.
func (d *Reader) Next() ([]*Array, int64, error) {
	for d.err == nil {
		m, err := d.next()
		if err != nil {
			d.err = err
			break
		}
		switch m.typ {
		case headerBatch:
			arrays, rows, err := d.columns(m)
			d.err = err
			return arrays, rows, err
		case headerDictionary:
			if err := d.dictionary(m); err != nil {
				d.err = fmt.Errorf("dictionary: %w", err)
			}
		default:
			d.err = fmt.Errorf("%w: a message of the kind %d", errFlat, m.typ)
		}
	}
	return nil, 0, d.err
}

// next returns the next message, or io.EOF.
func (d *Reader) next() (*message, error) {
	if d.stream {
		m, err := d.nextMessage()
		if m == nil && err == nil {
			err = io.EOF
		}
		return m, err
	}
	if len(d.blocks) == 0 {
		return nil, io.EOF
	}
	b := d.blocks[0]
	d.blocks = d.blocks[1:]
	m, err := d.blockMessage(b)
	if err == nil && m.typ != headerBatch {
		err = fmt.Errorf("%w: a message of the kind %d", errFlat, m.typ)
	}
	return m, err
}

func (d *Reader) columns(m *message) ([]*Array, int64, error) {
	b, err := d.batch(m, m.header)
	if err != nil {
		return nil, 0, err
	}
	var arrays []*Array
	for i, f := range d.Fields {
		a, err := d.load(b, f, d.want[i])
		if err == nil && b.f.err != nil {
			err = b.f.err
		}
		if err == nil && d.want[i] && a.Len != b.rows {
			err = fmt.Errorf("%w: %d values for %d rows", errBatch, a.Len, b.rows)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("column %s: %w", f.Name, err)
		}
		if d.want[i] {
			arrays = append(arrays, a)
		}
	}
	return arrays, b.rows, nil
}
