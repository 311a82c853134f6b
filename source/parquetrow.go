package source

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/permafrost-ml/permafrost/internal/parquet"
)

// errLevels is a file whose columns do not tell of the same rows.
var errLevels = errors.New("its levels are not those of rows")

// parquetColumn puts the values of a top column together, row by row, from
// the cells of its leaves.
type parquetColumn struct {
	node   *parquet.Node
	leaves []*parquetLeaf
	nested bool
	cells  [][]parquet.Cell // of the row, a slice a leaf
}

// parquetLeaf is a leaf with the cell that is ahead.
type parquetLeaf struct {
	value func(*parquet.Cell) (any, error)
	repeated,
	begun bool
	col   *parquet.Column
	ahead parquet.Cell
	has   bool
}

func newParquetColumn(n *parquet.Node) (*parquetColumn, error) {
	c := &parquetColumn{node: n, nested: !n.Leaf() || n.Repeated}
	var add func(n *parquet.Node)
	add = func(n *parquet.Node) {
		if n.Leaf() {
			c.leaves = append(c.leaves, &parquetLeaf{value: parquetValue(n), repeated: n.MaxRep > 0})
		}
		for _, child := range n.Children {
			add(child)
		}
	}
	add(n)
	c.cells = make([][]parquet.Cell, len(c.leaves))
	return c, nil
}

func (c *parquetColumn) open(f *parquet.File, group int) {
	for i, l := range c.leaves {
		l.col = f.Column(group, c.node.First+i)
		l.begun, l.has = false, false
	}
}

// row reads the cells of the next row and returns their size in bytes. Of a
// row of more than most bytes the rest is passed over.
func (c *parquetColumn) row(most int) (int, error) {
	size := 0
	for i, l := range c.leaves {
		cells := c.cells[i][:0]
		n, err := l.row(most-size, &cells)
		if size += n; err != nil {
			return size, err
		}
		c.cells[i] = cells
	}
	return size, nil
}

// cellSize is the memory that a cell of a list takes beside its bytes.
const cellSize = 48

func (l *parquetLeaf) row(most int, cells *[]parquet.Cell) (size int, err error) {
	if !l.repeated {
		var cell parquet.Cell
		if !l.col.Next(&cell) {
			return 0, l.missing()
		}
		*cells = append(*cells, cell)
		return len(cell.Bytes), nil
	}
	take := func(cell parquet.Cell) {
		if size <= most {
			size += cellSize + len(cell.Bytes)
			*cells = append(*cells, cell)
		}
	}
	if !l.begun {
		l.begun, l.has = true, l.col.Next(&l.ahead)
	}
	if !l.has || l.ahead.Rep != 0 {
		return 0, l.missing()
	}
	take(l.ahead)
	for l.has = l.col.Next(&l.ahead); l.has && l.ahead.Rep > 0; l.has = l.col.Next(&l.ahead) {
		take(l.ahead)
	}
	return size, l.col.Err()
}

func (l *parquetLeaf) missing() error {
	if err := l.col.Err(); err != nil {
		return err
	}
	return errLevels
}

// end holds the column to the number of rows of the group.
func (c *parquetColumn) end() error {
	for _, l := range c.leaves {
		var cell parquet.Cell
		if l.has || l.col.Next(&cell) {
			return errLevels
		}
		if err := l.col.Err(); err != nil {
			return err
		}
	}
	return nil
}

// value returns the value of [Fields] of the row that was read.
func (c *parquetColumn) value() (any, error) {
	if !c.nested {
		cell := &c.cells[0][0]
		if cell.Def < c.node.MaxDef {
			return nil, nil
		}
		return c.leaves[0].value(cell)
	}
	text, err := c.append(nil, c.node, c.cells)
	if err != nil || string(text) == "null" {
		return nil, err
	}
	return json.RawMessage(text), nil
}

// append appends the JSON of what cells, those of the leaves below n, have of
// n in one instance of its parent.
func (c *parquetColumn) append(dst []byte, n *parquet.Node, cells [][]parquet.Cell) ([]byte, error) {
	if n.Repeated {
		return c.appendList(dst, n, cells, c.appendOne)
	}
	return c.appendOne(dst, n, cells)
}

// appendList appends the elements of a repeated node, each by element.
func (c *parquetColumn) appendList(dst []byte, n *parquet.Node, cells [][]parquet.Cell, element func([]byte, *parquet.Node, [][]parquet.Cell) ([]byte, error)) ([]byte, error) {
	dst = append(dst, '[')
	err := eachElement(n, cells, func(i int, part [][]parquet.Cell) (err error) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, err = element(dst, n, part)
		return err
	})
	return append(dst, ']'), err
}

// eachElement splits cells into those of the elements of a repeated node.
func eachElement(n *parquet.Node, cells [][]parquet.Cell, element func(i int, part [][]parquet.Cell) error) error {
	if len(cells[0]) == 0 {
		return errLevels
	}
	if cells[0][0].Def < n.MaxDef {
		return nil // an empty list
	}
	rest := append([][]parquet.Cell(nil), cells...)
	part := make([][]parquet.Cell, len(cells))
	for i := 0; len(rest[0]) > 0; i++ {
		for k, r := range rest {
			if len(r) == 0 {
				return errLevels
			}
			end := 1
			for end < len(r) && r[end].Rep > n.MaxRep {
				end++
			}
			part[k], rest[k] = r[:end], r[end:]
		}
		if err := element(i, part); err != nil {
			return err
		}
	}
	for _, r := range rest {
		if len(r) > 0 {
			return errLevels
		}
	}
	return nil
}

// appendOne appends one instance of n, an element where n is repeated.
func (c *parquetColumn) appendOne(dst []byte, n *parquet.Node, cells [][]parquet.Cell) ([]byte, error) {
	if len(cells[0]) == 0 {
		return dst, errLevels
	}
	if n.Optional && cells[0][0].Def < n.MaxDef {
		return append(dst, "null"...), nil
	}
	if n.Leaf() {
		if len(cells[0]) != 1 || cells[0][0].Def != n.MaxDef {
			return dst, errLevels
		}
		v, err := c.leaves[n.First-c.node.First].value(&cells[0][0])
		if err != nil {
			return dst, err
		}
		return appendJSON(dst, v)
	}
	if inner := n.Children[0]; len(n.Children) == 1 && inner.Repeated {
		switch {
		case n.Meaning == parquet.List:
			return c.appendList(dst, inner, cells, func(dst []byte, _ *parquet.Node, part [][]parquet.Cell) ([]byte, error) {
				// The format's rule for older writers: a repeated group of one
				// field is the element's wrapping, unless its name says that
				// it is the element.
				if len(inner.Children) == 1 && inner.Name != "array" && inner.Name != n.Name+"_tuple" {
					return c.append(dst, inner.Children[0], part)
				}
				return c.appendOne(dst, inner, part)
			})
		case n.Meaning == parquet.Map && len(inner.Children) == 2:
			return c.appendMap(dst, inner, cells)
		}
	}
	dst = append(dst, '{')
	for i, child := range n.Children {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendJSONText(dst, child.Name), ':')
		var err error
		if dst, err = c.append(dst, child, cells[child.First-n.First:][:child.Leaves]); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// appendMap appends an object, or a list of pairs where keys are no texts.
func (c *parquetColumn) appendMap(dst []byte, inner *parquet.Node, cells [][]parquet.Cell) ([]byte, error) {
	key, value := inner.Children[0], inner.Children[1]
	if !key.Leaf() || key.Optional || key.Repeated || key.Meaning != parquet.Text {
		return c.appendList(dst, inner, cells, c.appendOne)
	}
	dst = append(dst, '{')
	err := eachElement(inner, cells, func(i int, part [][]parquet.Cell) (err error) {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = c.append(dst, key, part[:1]); err != nil {
			return err
		}
		dst, err = c.append(append(dst, ':'), value, part[1:])
		return err
	})
	if err != nil {
		return dst, fmt.Errorf("map: %w", err)
	}
	return append(dst, '}'), nil
}
