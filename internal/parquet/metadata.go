package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Kind is how a leaf's values are stored.
type Kind int32

// The kinds of leaves, with their numbers in the format.
const (
	Bool Kind = iota
	Int32
	Int64
	Int96 // 12 bytes, the timestamps of older writers
	Float
	Double
	Bytes
	FixedBytes
)

// Meaning is what a leaf's values stand for.
type Meaning int

// What a column means. Unknown annotations are [Plain], the values as stored.
const (
	Plain Meaning = iota
	Text
	Decimal
	Date
	Time
	Timestamp
	Signed
	Unsigned
	UUID
	Half
	List // of groups
	Map
)

// Unit of a time, as a number of parts of a second.
type Unit int64

// The units there are.
const (
	Millis Unit = 1_000
	Micros Unit = 1_000_000
	Nanos  Unit = 1_000_000_000
)

// Node is a column of the schema, or a group of columns.
type Node struct {
	Name               string
	Optional, Repeated bool
	Kind               Kind // of leaves
	Length             int  // bytes of FixedBytes
	Meaning            Meaning
	Unit               Unit // of Time and Timestamp
	UTC                bool // of Timestamp: a point in time, not a local one
	Scale              int  // of Decimal
	Children           []*Node
	// MaxDef and MaxRep are the levels of a value that is there.
	MaxDef, MaxRep int
	// First and Leaves are the leaves below, numbered through the file.
	First, Leaves int
}

// Leaf reports whether n has values of its own.
func (n *Node) Leaf() bool { return n.Children == nil }

// File is an opened Parquet file. It is safe for concurrent use.
type File struct {
	r      io.ReaderAt
	size   int64
	Root   *Node
	leaves []*Node
	groups []group
}

type group struct {
	rows   int64
	chunks []chunk
}

// chunk is a column of a row group.
type chunk struct {
	kind               Kind
	codec              int32
	values             int64
	start, compressed  int64 // where its pages are
	encrypted, outside bool
}

// Limits of what is opened, far above what files have.
const (
	maxFooter = 64 << 20
	maxChunks = 1 << 20
	maxNodes  = 1 << 16
	maxLevel  = 255
	maxDepth  = 64
)

const magic = "PAR1"

// Open reads the footer of a file of the given size.
func Open(r io.ReaderAt, size int64) (*File, error) {
	var ends [8]byte
	if size < 12 {
		return nil, errors.New("too short for a Parquet file")
	}
	if _, err := r.ReadAt(ends[:4], 0); err != nil {
		return nil, err
	}
	head := string(ends[:4])
	if _, err := r.ReadAt(ends[:], size-8); err != nil {
		return nil, err
	}
	switch tail := string(ends[4:]); {
	case head == "PARE" || tail == "PARE":
		return nil, errors.New("it is encrypted")
	case head != magic:
		return nil, errors.New("not a Parquet file")
	case tail != magic:
		return nil, errors.New("it is cut, its end is missing")
	}
	n := int64(binary.LittleEndian.Uint32(ends[:4]))
	if n > min(size-12, maxFooter) {
		return nil, fmt.Errorf("%w: a footer of %d bytes in a file of %d", errThrift, n, size)
	}
	footer := make([]byte, n)
	if _, err := r.ReadAt(footer, size-8-n); err != nil {
		return nil, err
	}
	f := &File{r: r, size: size}
	if err := f.footer(footer); err != nil {
		return nil, fmt.Errorf("footer: %w", err)
	}
	return f, nil
}

// Groups returns the number of row groups.
func (f *File) Groups() int { return len(f.groups) }

// Rows returns the number of rows of a row group.
func (f *File) Rows(group int) int64 { return f.groups[group].rows }

func (f *File) footer(b []byte) error {
	r := &thriftReader{b: b}
	var schema []element
	chunks := 0
	encrypted := false
	r.structure(func(id int16, typ byte) bool {
		switch {
		case id == 2 && typ == thriftList:
			r.list(thriftStruct, func() {
				if schema = append(schema, readElement(r)); len(schema) > maxNodes {
					r.fail(fmt.Errorf("over %d columns", maxNodes))
				}
			})
		case id == 4 && typ == thriftList:
			r.list(thriftStruct, func() {
				g := readGroup(r)
				f.groups = append(f.groups, g)
				if chunks += len(g.chunks) + 1; chunks > maxChunks {
					r.fail(fmt.Errorf("over %d column chunks", maxChunks))
				}
			})
		case id == 8: // encryption algorithm
			encrypted = true
			return false
		default:
			return false
		}
		return true
	})
	if r.err != nil {
		return r.err
	}
	if encrypted {
		return errors.New("it has encrypted columns")
	}
	t := treeBuilder{elements: schema}
	root, err := t.node(0, 0, 0)
	switch {
	case err != nil:
		return err
	case t.at != len(schema):
		return fmt.Errorf("%w: the schema has more elements than columns", errThrift)
	case root.Leaf():
		return fmt.Errorf("%w: no columns", errThrift)
	}
	f.Root, f.leaves = root, t.leaves
	for i, g := range f.groups {
		if g.rows < 0 || len(g.chunks) != len(t.leaves) {
			return fmt.Errorf("%w: row group %d has %d rows and %d columns, the schema has %d", errThrift, i, g.rows, len(g.chunks), len(t.leaves))
		}
		for k, c := range g.chunks {
			if c.start < 0 || c.compressed < 0 || c.values < 0 || c.start > f.size-c.compressed || c.kind != t.leaves[k].Kind {
				return fmt.Errorf("%w: column %q of row group %d", errThrift, t.leaves[k].Name, i)
			}
		}
	}
	return nil
}

// element is a schema element as stored.
type element struct {
	node     Node
	hasKind  bool
	children int32
}

// Converted types, the older annotations, by their numbers in the format.
var converted = map[int32]Node{
	0: {Meaning: Text}, 4: {Meaning: Text}, 19: {Meaning: Text}, // UTF8, ENUM, JSON
	1: {Meaning: Map}, 2: {Meaning: Map}, 3: {Meaning: List},
	5: {Meaning: Decimal}, 6: {Meaning: Date},
	7: {Meaning: Time, Unit: Millis}, 8: {Meaning: Time, Unit: Micros},
	9: {Meaning: Timestamp, Unit: Millis, UTC: true}, 10: {Meaning: Timestamp, Unit: Micros, UTC: true},
	11: {Meaning: Unsigned}, 12: {Meaning: Unsigned}, 13: {Meaning: Unsigned}, 14: {Meaning: Unsigned},
	15: {Meaning: Signed}, 16: {Meaning: Signed}, 17: {Meaning: Signed}, 18: {Meaning: Signed},
}

func readElement(r *thriftReader) element {
	var e element
	n := &e.node
	var logical Node
	hasLogical := false
	r.structure(func(id int16, typ byte) bool {
		switch {
		case id == 1 && typ == thriftI32:
			n.Kind, e.hasKind = Kind(r.int32()), true
		case id == 2 && typ == thriftI32:
			n.Length = int(r.int32())
		case id == 3 && typ == thriftI32:
			repetition := r.int32()
			n.Optional, n.Repeated = repetition == 1, repetition == 2
		case id == 4 && typ == thriftBinary:
			n.Name = r.text()
		case id == 5 && typ == thriftI32:
			e.children = r.int32()
		case id == 6 && typ == thriftI32:
			c := converted[r.int32()]
			n.Meaning, n.Unit, n.UTC = c.Meaning, c.Unit, c.UTC
		case id == 7 && typ == thriftI32:
			n.Scale = int(r.int32())
		case id == 10 && typ == thriftStruct:
			logical, hasLogical = readLogical(r)
		default:
			return false
		}
		return true
	})
	if hasLogical { // it says more than the converted type
		n.Meaning, n.Unit, n.UTC = logical.Meaning, logical.Unit, logical.UTC
		if logical.Meaning == Decimal {
			n.Scale = logical.Scale
		}
	}
	return e
}

// readLogical reads the union of logical types; false for one that is unknown.
func readLogical(r *thriftReader) (n Node, ok bool) {
	meanings := map[int16]Meaning{
		1: Text, 2: Map, 3: List, 4: Text, 5: Decimal, 6: Date, 7: Time, 8: Timestamp, 10: Signed, 12: Text, 14: UUID, 15: Half,
	}
	r.structure(func(id int16, typ byte) bool {
		meaning, known := meanings[id]
		if !known || typ != thriftStruct {
			return false
		}
		n.Meaning, ok = meaning, true
		r.structure(func(id int16, typ byte) bool {
			switch {
			case meaning == Decimal && id == 1 && typ == thriftI32:
				n.Scale = int(r.int32())
			case (meaning == Time || meaning == Timestamp) && id == 1:
				n.UTC = typ == thriftTrue
			case (meaning == Time || meaning == Timestamp) && id == 2 && typ == thriftStruct:
				r.structure(func(id int16, _ byte) bool {
					n.Unit = map[int16]Unit{1: Millis, 2: Micros, 3: Nanos}[id]
					return false
				})
			case meaning == Signed && id == 2 && typ == thriftFalse:
				n.Meaning = Unsigned
			default:
				return false
			}
			return true
		})
		return true
	})
	return n, ok
}

// treeBuilder makes the tree of schema elements, which are in depth-first
// order.
type treeBuilder struct {
	elements []element
	at       int
	leaves   []*Node
}

func (t *treeBuilder) node(depth, def, rep int) (*Node, error) {
	if t.at >= len(t.elements) || depth > maxDepth {
		return nil, fmt.Errorf("%w: the schema's tree", errThrift)
	}
	e := &t.elements[t.at]
	t.at++
	n := &e.node
	if depth == 0 {
		n.Optional, n.Repeated = false, false
	}
	if n.Optional || n.Repeated {
		def++
	}
	if n.Repeated {
		rep++
	}
	if def > maxLevel {
		return nil, fmt.Errorf("%w: over %d levels", errThrift, maxLevel)
	}
	n.MaxDef, n.MaxRep, n.First = def, rep, len(t.leaves)
	if e.children == 0 && e.hasKind {
		n.Leaves = 1
		t.leaves = append(t.leaves, n)
		return n, n.check()
	}
	if e.children <= 0 || int(e.children) > len(t.elements)-t.at {
		return nil, fmt.Errorf("%w: column %q has %d children", errThrift, n.Name, e.children)
	}
	for range e.children {
		c, err := t.node(depth+1, def, rep)
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, c)
	}
	n.Leaves = len(t.leaves) - n.First
	return n, nil
}

// check holds a leaf's annotation to its kind; what does not fit is ignored,
// as the format says.
func (n *Node) check() error {
	if n.Kind < Bool || n.Kind > FixedBytes {
		return fmt.Errorf("%w: column %q is of the unknown type %d", errThrift, n.Name, n.Kind)
	}
	if n.Kind == FixedBytes && (n.Length < 0 || n.Length > MaxPage) {
		return fmt.Errorf("%w: column %q has values of %d bytes", errThrift, n.Name, n.Length)
	}
	integer := n.Kind == Int32 || n.Kind == Int64
	fits := map[Meaning]bool{
		Plain: true, Text: n.Kind == Bytes, Date: n.Kind == Int32,
		Decimal:   (integer || n.Kind == Bytes || n.Kind == FixedBytes) && n.Scale >= 0 && n.Scale <= 1000,
		Time:      integer && n.Unit != 0,
		Timestamp: n.Kind == Int64 && n.Unit != 0,
		Signed:    integer, Unsigned: integer,
		UUID: n.Kind == FixedBytes && n.Length == 16, Half: n.Kind == FixedBytes && n.Length == 2,
	}
	if !fits[n.Meaning] {
		n.Meaning = Plain
	}
	return nil
}

func readGroup(r *thriftReader) group {
	var g group
	r.structure(func(id int16, typ byte) bool {
		switch {
		case id == 1 && typ == thriftList:
			r.list(thriftStruct, func() {
				if g.chunks = append(g.chunks, readChunk(r)); len(g.chunks) > maxNodes {
					r.fail(fmt.Errorf("over %d columns", maxNodes))
				}
			})
		case id == 3 && typ == thriftI64:
			g.rows = r.int()
		default:
			return false
		}
		return true
	})
	return g
}

func readChunk(r *thriftReader) chunk {
	c := chunk{start: -1}
	r.structure(func(id int16, typ byte) bool {
		switch {
		case id == 1 && typ == thriftBinary:
			c.outside = len(r.binary()) > 0
		case id == 3 && typ == thriftStruct:
			readChunkData(r, &c)
		case id == 8 || id == 9: // encryption
			c.encrypted = true
			return false
		default:
			return false
		}
		return true
	})
	return c
}

func readChunkData(r *thriftReader, c *chunk) {
	dictionary := int64(0)
	r.structure(func(id int16, typ byte) bool {
		switch {
		case id == 1 && typ == thriftI32:
			c.kind = Kind(r.int32())
		case id == 4 && typ == thriftI32:
			c.codec = r.int32()
		case id == 5 && typ == thriftI64:
			c.values = r.int()
		case id == 7 && typ == thriftI64:
			c.compressed = r.int()
		case id == 9 && typ == thriftI64:
			c.start = r.int()
		case id == 11 && typ == thriftI64:
			dictionary = r.int()
		default:
			return false
		}
		return true
	})
	// The dictionary page comes first where there is one; some writers note an
	// offset of 0 for none.
	if dictionary > 0 && dictionary < c.start {
		c.start = dictionary
	}
}
