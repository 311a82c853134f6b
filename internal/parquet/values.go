package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// values decodes the values of a page one at a time into cells.
type values interface{ next(cell *Cell) error }

// decoder returns the values that a page of count cells holds in an encoding.
func (c *Column) decoder(encoding int32, b []byte, count int32) (values, error) {
	kind := c.node.Kind
	switch encoding {
	case encPlain:
		return newPlain(c.node, b), nil
	case encPlainDictionary, encDictionary:
		if c.dict == nil {
			return nil, errors.New("a page of indices without a dictionary")
		}
		if len(b) == 0 { // nulls alone
			return noValues{}, nil
		}
		if b[0] > 32 {
			return nil, fmt.Errorf("%w: indices of %d bits", errThrift, b[0])
		}
		return &indexed{hybrid{b: b[1:], width: uint(b[0])}, c.dict}, nil
	case encRLE:
		if kind != Bool {
			break
		}
		if len(b) < 4 {
			return noValues{}, nil
		}
		n := binary.LittleEndian.Uint32(b)
		return &runs{hybrid{b: b[4:][:min(int64(n), int64(len(b)-4))], width: 1}}, nil
	case encDelta:
		if kind != Int32 && kind != Int64 {
			break
		}
		if len(b) == 0 {
			return noValues{}, nil
		}
		d, err := newDelta(b, count)
		return &deltas{d, kind == Int32}, err
	case encDeltaLength:
		if kind != Bytes {
			break
		}
		if len(b) == 0 {
			return noValues{}, nil
		}
		return newDeltaLength(b, count)
	case encDeltaBytes:
		if kind != Bytes && kind != FixedBytes {
			break
		}
		if len(b) == 0 {
			return noValues{}, nil
		}
		return newDeltaBytes(c.node, b, count)
	case encByteStreamSplit:
		width := plainWidth(c.node)
		if kind == Bool || kind == Bytes || width == 0 {
			break
		}
		return &streams{node: c.node, b: b, stride: len(b) / width, width: width}, nil
	}
	return nil, fmt.Errorf("values of column %q in the encoding %d are not supported", c.node.Name, encoding)
}

type noValues struct{}

func (noValues) next(*Cell) error { return errValues }

// plainWidth is the number of bytes of a plain value, 0 where they differ.
func plainWidth(n *Node) int {
	switch n.Kind {
	case Int32, Float:
		return 4
	case Int64, Double:
		return 8
	case Int96:
		return 12
	case FixedBytes:
		return n.Length
	default:
		return 0
	}
}

// fixed sets the value that width bytes are; it keeps b.
func fixed(kind Kind, b []byte, cell *Cell) {
	switch kind {
	case Int32:
		cell.Int = int64(int32(binary.LittleEndian.Uint32(b)))
	case Float:
		cell.Int = int64(binary.LittleEndian.Uint32(b))
	case Int64, Double:
		cell.Int = int64(binary.LittleEndian.Uint64(b))
	default:
		cell.Bytes = b
	}
}

func newPlain(n *Node, b []byte) values {
	switch n.Kind {
	case Bool:
		return &bits{b: b}
	case Bytes:
		return &prefixed{b}
	default:
		return &plain{n.Kind, plainWidth(n), b}
	}
}

// plain are values of one width.
type plain struct {
	kind  Kind
	width int
	b     []byte
}

func (v *plain) next(cell *Cell) error {
	if len(v.b) < v.width {
		return errValues
	}
	fixed(v.kind, v.b[:v.width:v.width], cell)
	v.b = v.b[v.width:]
	return nil
}

// bits are plain bools.
type bits struct {
	b  []byte
	at uint64
}

func (v *bits) next(cell *Cell) error {
	if v.at/8 >= uint64(len(v.b)) {
		return errValues
	}
	cell.Int = int64(v.b[v.at/8] >> (v.at % 8) & 1)
	v.at++
	return nil
}

// prefixed are byte strings behind their lengths.
type prefixed struct{ b []byte }

func (v *prefixed) next(cell *Cell) error {
	if len(v.b) < 4 {
		return errValues
	}
	n := binary.LittleEndian.Uint32(v.b)
	if uint64(n) > uint64(len(v.b)-4) {
		return fmt.Errorf("%w: a value of %d bytes", errValues, n)
	}
	cell.Bytes, v.b = v.b[4:4+n:4+n], v.b[4+n:]
	return nil
}

// indexed are values of a dictionary.
type indexed struct {
	hybrid
	dict []Cell
}

func (v *indexed) next(cell *Cell) error {
	i, err := v.hybrid.next()
	if err != nil {
		return err
	}
	if uint64(i) >= uint64(len(v.dict)) {
		return fmt.Errorf("%w: index %d into a dictionary of %d", errThrift, i, len(v.dict))
	}
	cell.Int, cell.Bytes = v.dict[i].Int, v.dict[i].Bytes
	return nil
}

// runs are bools in runs.
type runs struct{ hybrid }

func (v *runs) next(cell *Cell) error {
	b, err := v.hybrid.next()
	cell.Int = int64(b & 1)
	return err
}

// deltas are integers by their differences.
type deltas struct {
	*delta
	narrow bool
}

func (v *deltas) next(cell *Cell) error {
	n, err := v.delta.next()
	if v.narrow {
		n = int64(int32(n))
	}
	cell.Int = n
	return err
}

// lengths are byte strings behind the lengths of all of them.
type lengths struct {
	sizes *delta
	b     []byte
}

func newDeltaLength(b []byte, most int32) (*lengths, error) {
	ahead, err := newDelta(b, most)
	if err != nil {
		return nil, err
	}
	rest, err := ahead.rest()
	if err != nil {
		return nil, err
	}
	sizes, err := newDelta(b, most)
	return &lengths{sizes, rest}, err
}

func (v *lengths) next(cell *Cell) error {
	n, err := v.sizes.next()
	if err != nil {
		return err
	}
	if n < 0 || n > int64(len(v.b)) {
		return fmt.Errorf("%w: a value of %d bytes", errValues, n)
	}
	cell.Bytes, v.b = v.b[:n:n], v.b[n:]
	return nil
}

// fronts are byte strings that each share a front with the one before.
type fronts struct {
	node     *Node
	prefixes *delta
	suffixes *lengths
	last     []byte
}

func newDeltaBytes(n *Node, b []byte, most int32) (*fronts, error) {
	ahead, err := newDelta(b, most)
	if err != nil {
		return nil, err
	}
	rest, err := ahead.rest()
	if err != nil {
		return nil, err
	}
	prefixes, err := newDelta(b, most)
	if err != nil {
		return nil, err
	}
	suffixes, err := newDeltaLength(rest, most)
	return &fronts{node: n, prefixes: prefixes, suffixes: suffixes}, err
}

func (v *fronts) next(cell *Cell) error {
	n, err := v.prefixes.next()
	if err != nil {
		return err
	}
	if n < 0 || n > int64(len(v.last)) {
		return fmt.Errorf("%w: a value shares %d bytes with one of %d", errValues, n, len(v.last))
	}
	if err := v.suffixes.next(cell); err != nil {
		return err
	}
	if n > 0 {
		cell.Bytes = slices.Concat(v.last[:n], cell.Bytes)
	}
	v.last = cell.Bytes
	if v.node.Kind == FixedBytes && len(cell.Bytes) != v.node.Length {
		return fmt.Errorf("%w: a value of %d bytes, not %d", errValues, len(cell.Bytes), v.node.Length)
	}
	return nil
}

// streams are values whose first bytes come first, then their second ones.
type streams struct {
	node          *Node
	b             []byte
	stride, width int
	at            int
}

func (v *streams) next(cell *Cell) error {
	if v.at >= v.stride {
		return errValues
	}
	value := make([]byte, v.width)
	for k := range value {
		value[k] = v.b[k*v.stride+v.at]
	}
	v.at++
	fixed(v.node.Kind, value, cell)
	return nil
}
