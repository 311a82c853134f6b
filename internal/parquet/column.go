package parquet

import (
	"errors"
	"fmt"
	"io"
)

// Cell is one entry of a column: a value with its levels.
type Cell struct {
	// Rep is 0 where a row begins, else the level of the list that goes on.
	Rep int
	// Def says how much of the path to the value is there; at the column's
	// MaxDef the value is.
	Def int
	// Int has the values of bools (0 or 1) and integers; a Float or Double
	// has its bits there.
	Int int64
	// Bytes has those of Bytes, FixedBytes and Int96. It is valid for good and
	// must not be changed.
	Bytes []byte
}

// Column gives the cells of a leaf in a row group, in order. It is not safe
// for concurrent use.
type Column struct {
	node   *Node
	pages  pages
	left   int64 // cells that the pages to come have, as the footer says
	inPage int32 // cells left of this page
	rep    *hybrid
	def    *hybrid
	values values
	dict   []Cell
	err    error
}

// Column returns the cells of a leaf in a row group.
func (f *File) Column(group, leaf int) *Column {
	c := f.groups[group].chunks[leaf]
	col := &Column{node: f.leaves[leaf], left: c.values}
	col.pages = pages{file: io.NewSectionReader(f.r, 0, f.size), at: c.start, end: c.start + c.compressed, codec: c.codec}
	switch {
	case c.encrypted:
		col.err = errors.New("it is encrypted")
	case c.outside:
		col.err = errors.New("its data is in another file")
	}
	return col
}

// Next reads the next cell, or returns false at the end or where Err says why.
func (c *Column) Next(cell *Cell) bool {
	for c.err == nil && c.inPage == 0 {
		if c.left == 0 {
			return false
		}
		if err := c.page(); err != nil {
			c.err = err
		}
	}
	if c.err != nil {
		return false
	}
	if err := c.cell(cell); err != nil {
		c.err = err
		return false
	}
	c.inPage--
	return true
}

// Err returns why the cells ended early.
func (c *Column) Err() error { return c.err }

func (c *Column) cell(cell *Cell) error {
	*cell = Cell{Def: c.node.MaxDef}
	if c.node.MaxRep > 0 {
		rep, err := c.rep.next()
		if err != nil {
			return err
		}
		cell.Rep = int(rep)
	}
	if c.node.MaxDef > 0 {
		def, err := c.def.next()
		if err != nil {
			return err
		}
		cell.Def = int(def)
	}
	if cell.Rep > c.node.MaxRep || cell.Def > c.node.MaxDef {
		return fmt.Errorf("%w: levels %d and %d", errThrift, cell.Rep, cell.Def)
	}
	if cell.Def == c.node.MaxDef {
		return c.values.next(cell)
	}
	return nil
}

// page reads the next data page, and the dictionary page before it.
func (c *Column) page() error {
	h, b, err := c.pages.next()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the pages end %d values too early", c.left)
	}
	if err != nil {
		return err
	}
	switch h.typ {
	case pageDictionary:
		return c.dictionary(h, b)
	case pageData, pageDataV2:
		return c.data(h, b)
	default: // an index
		return nil
	}
}

func (c *Column) data(h pageHeader, b []byte) error {
	if !h.hasValues || h.values < 0 || int64(h.values) > c.left {
		return fmt.Errorf("%w: a page of %d values, %d are to come", errThrift, h.values, c.left)
	}
	var err error
	if h.typ == pageData {
		if b, err = decompress(c.pages.codec, b, int(h.plain)); err != nil {
			return fmt.Errorf("decompress a page: %w", err)
		}
	}
	if b, err = c.levels(h, b); err != nil {
		return err
	}
	if h.typ == pageDataV2 && h.valuesAreCompressed && c.pages.codec != codecNone {
		// A page of nulls alone may have nothing that could be compressed.
		if size := int(h.plain) - int(h.defBytes) - int(h.repBytes); size < 0 {
			return errSize
		} else if len(b) > 0 || size > 0 {
			if b, err = decompress(c.pages.codec, b, size); err != nil {
				return fmt.Errorf("decompress a page: %w", err)
			}
		}
	}
	if c.values, err = c.decoder(h.encoding, b, h.values); err != nil {
		return err
	}
	c.left -= int64(h.values)
	c.inPage = h.values
	return nil
}

// maxDictionary bounds the values of a dictionary page, which are kept apart.
const maxDictionary = 1 << 20

func (c *Column) dictionary(h pageHeader, b []byte) error {
	switch {
	case c.dict != nil:
		return fmt.Errorf("%w: a second dictionary", errThrift)
	case h.encoding != encPlain && h.encoding != encPlainDictionary:
		return fmt.Errorf("a dictionary in the encoding %d is not supported", h.encoding)
	case h.values < 0 || h.values > maxDictionary:
		return fmt.Errorf("a dictionary of %d values, the limit is %d", h.values, maxDictionary)
	}
	b, err := decompress(c.pages.codec, b, int(h.plain))
	if err != nil {
		return fmt.Errorf("decompress a dictionary: %w", err)
	}
	v := newPlain(c.node, b)
	c.dict = []Cell{}
	for range h.values {
		var cell Cell
		if err := v.next(&cell); err != nil {
			return fmt.Errorf("dictionary: %w", err)
		}
		c.dict = append(c.dict, cell)
	}
	return nil
}
