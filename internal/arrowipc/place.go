package arrowipc

import "fmt"

// Placed says where the buffers of an uncompressed record batch lie, for who
// has the file in memory.
type Placed struct {
	Rows int64
	// Lengths are the numbers of values, and Nulls those of nulls, of each
	// field and its children, depth first.
	Lengths, Nulls []int64
	// Buffers are those of the fields, in the same order.
	Buffers []Extent
}

// Extent is a part of a file, in bytes.
type Extent struct{ At, Size int64 }

// Place returns where the record batches of a file lie; it reads their
// metadata only. It is an error for a stream, for dictionaries and for
// compressed buffers.
func (d *Reader) Place() ([]Placed, error) {
	if d.stream || len(d.dictBlocks) > 0 {
		return nil, fmt.Errorf("%w: a stream or dictionaries cannot be placed", errBatch)
	}
	out := make([]Placed, len(d.blocks))
	for i, b := range d.blocks {
		m, err := d.blockMessage(b)
		if err == nil && m.typ != headerBatch {
			err = fmt.Errorf("%w: a message of the kind %d", errFlat, m.typ)
		}
		if err == nil {
			out[i], err = d.place(m)
		}
		if err != nil {
			return nil, fmt.Errorf("record batch %d: %w", i, err)
		}
	}
	return out, nil
}

func (d *Reader) place(m *message) (p Placed, err error) {
	b, err := d.batch(m, m.header)
	if err != nil {
		return p, err
	}
	if codec, err := b.codec(); err != nil || codec != codecNone {
		return p, fmt.Errorf("%w: its buffers are compressed", errBatch)
	}
	p.Rows = b.rows
	at, n := b.vector(slotNodes, 16)
	for i := range n {
		p.Lengths = append(p.Lengths, b.f.i64(at+16*i))
		p.Nulls = append(p.Nulls, b.f.i64(at+16*i+8))
	}
	at, n = b.vector(slotBuffers, 16)
	for i := range n {
		e := Extent{b.f.i64(at + 16*i), b.f.i64(at + 16*i + 8)}
		if e.At < 0 || e.Size < 0 || e.At > b.size || e.Size > b.size-e.At {
			return p, fmt.Errorf("%w: a buffer of %d bytes at %d of %d", errBatch, e.Size, e.At, b.size)
		}
		e.At += b.body
		p.Buffers = append(p.Buffers, e)
	}
	return p, b.f.err
}
