package source

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/permafrost-ml/permafrost/internal/arrowipc"
)

// columnError names the column of an error, and leaves a row that is bad a
// bad row.
func columnError(name string, err error) error {
	if bad := (*badCell)(nil); errors.As(err, &bad) {
		return badCellf("column %s: %w", name, bad.err)
	}
	return fmt.Errorf("column %s: %w", name, err)
}

// arrowValue makes values of [Fields] of the values of a row, while the bytes
// of the row that are left last.
type arrowValue struct{ left int }

// of returns the value at i.
func (v *arrowValue) of(a *arrowipc.Array, i int64) (any, error) {
	if a.IsNull(i) {
		return nil, nil
	}
	a, i, err := a.Resolve(i)
	if err != nil || a.IsNull(i) {
		return nil, err
	}
	if isNested(a.Field.Type) {
		text, err := v.append(nil, a, i)
		return json.RawMessage(text), err
	}
	return v.scalar(a, i)
}

func isNested(t arrowipc.Type) bool {
	switch t {
	case arrowipc.List, arrowipc.LargeList, arrowipc.FixedList, arrowipc.ListView, arrowipc.LargeListView, arrowipc.Struct, arrowipc.Map:
		return true
	default:
		return false
	}
}

// take takes n bytes off those that the row may have.
func (v *arrowValue) take(n int) error {
	if v.left -= n; v.left < 0 {
		return badCellf("the row is larger than MaxLine")
	}
	return nil
}

// scalar returns the value at i, which is there and is no list or struct.
func (v *arrowValue) scalar(a *arrowipc.Array, i int64) (any, error) {
	x, err := v.typed(a, i)
	if err != nil && !errors.Is(err, errStructure) {
		return nil, &badCell{err}
	}
	return x, err
}

// errStructure marks an error of the file, after which nothing can be read.
var errStructure = errors.New("damaged")

func (v *arrowValue) bytes(a *arrowipc.Array, i int64) ([]byte, error) {
	b, err := a.Bytes(i)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStructure, err)
	}
	return b, v.take(len(b))
}

func (v *arrowValue) typed(a *arrowipc.Array, i int64) (any, error) {
	f := a.Field
	switch f.Type {
	case arrowipc.Bool:
		return a.Bool(i), nil
	case arrowipc.Int:
		if !f.Signed && f.Width == 64 {
			return unsignedOf(uint64(a.Int(i))), nil
		}
		return a.Int(i), nil
	case arrowipc.Duration:
		return a.Int(i), nil
	case arrowipc.Float:
		switch f.Width {
		case 16:
			return halfOf(uint16(a.Int(i))), nil
		case 32:
			return float64(math.Float32frombits(uint32(a.Int(i)))), nil
		default:
			return math.Float64frombits(uint64(a.Int(i))), nil
		}
	case arrowipc.Date:
		days := a.Int(i)
		if f.PerSecond != 0 {
			days, _ = floorDiv(days, 86400*f.PerSecond)
		}
		return dateOf(days)
	case arrowipc.Time:
		return timeOf(a.Int(i), f.PerSecond)
	case arrowipc.Timestamp:
		return timestampOf(a.Int(i), f.PerSecond, f.Zoned)
	case arrowipc.Decimal:
		return v.decimal(a, i)
	case arrowipc.Text, arrowipc.LargeText, arrowipc.TextView:
		b, err := v.bytes(a, i)
		if err != nil {
			return nil, err
		}
		return textOf(b)
	default:
		b, err := v.bytes(a, i)
		return slices.Clone(b), err
	}
}

func (v *arrowValue) decimal(a *arrowipc.Array, i int64) (any, error) {
	b, err := v.bytes(a, i)
	if err != nil {
		return nil, err
	}
	switch len(b) {
	case 4:
		return decimalText(strconv.FormatInt(int64(int32(binary.LittleEndian.Uint32(b))), 10), a.Field.Scale), nil
	case 8:
		return decimalText(strconv.FormatInt(int64(binary.LittleEndian.Uint64(b)), 10), a.Field.Scale), nil
	}
	b = slices.Clone(b)
	slices.Reverse(b)
	return bigDecimalOf(b, a.Field.Scale)
}

// append appends the JSON of the value at i.
func (v *arrowValue) append(dst []byte, a *arrowipc.Array, i int64) ([]byte, error) {
	// What has no bytes of its own takes some too, so that overlapping lists
	// of a damaged file come to an end.
	if err := v.take(1); err != nil {
		return dst, err
	}
	if a.IsNull(i) {
		return append(dst, "null"...), nil
	}
	a, i, err := a.Resolve(i)
	if err != nil {
		return dst, err
	}
	switch {
	case a.IsNull(i):
		return append(dst, "null"...), nil
	case a.Field.Type == arrowipc.Struct:
		dst = append(dst, '{')
		for k, c := range a.Children {
			if k > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendJSONText(dst, c.Field.Name), ':')
			if dst, err = v.append(dst, c, i); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	case isNested(a.Field.Type):
		return v.appendList(dst, a, i)
	}
	x, err := v.scalar(a, i)
	if err != nil {
		return dst, err
	}
	if dst, err = appendJSON(dst, x); err != nil {
		return dst, &badCell{err}
	}
	return dst, nil
}

// appendList appends a list, or a map: an object where its keys are texts.
func (v *arrowValue) appendList(dst []byte, a *arrowipc.Array, i int64) ([]byte, error) {
	child, from, to, err := a.Elements(i)
	if err != nil {
		return dst, err
	}
	ends := "[]"
	object := a.Field.Type == arrowipc.Map && isText(child.Field.Children[0].Type)
	if object {
		ends = "{}"
	}
	dst = append(dst, ends[0])
	for k := from; k < to; k++ {
		if k > from {
			dst = append(dst, ',')
		}
		if !object {
			if dst, err = v.append(dst, child, k); err != nil {
				return dst, err
			}
			continue
		}
		key, value := child.Children[0], child.Children[1]
		if key.IsNull(k) || child.IsNull(k) {
			return dst, badCellf("a map has a null for a key")
		}
		if dst, err = v.append(dst, key, k); err != nil {
			return dst, err
		}
		if dst, err = v.append(append(dst, ':'), value, k); err != nil {
			return dst, err
		}
	}
	return append(dst, ends[1]), nil
}

func isText(t arrowipc.Type) bool {
	return t == arrowipc.Text || t == arrowipc.LargeText || t == arrowipc.TextView
}
