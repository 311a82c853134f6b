package pipeline

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/cachesink"
)

// objects numbers the objects of each side: equal numbers, on either side, are
// objects of which all encoders read the same. With one encoder they are the
// positions of its embeddings.
func (e *epochs) objects(ctx context.Context) ([][]int64, error) {
	var numbers [][]int64
	for i, encoder := range e.split().Encoders {
		one, err := e.objectsUnder(ctx, encoder)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			numbers = one
			continue
		}
		known := map[[2]int64]int64{}
		for k, side := range one {
			for row, n := range side {
				numbers[k][row] = numberOf(known, [2]int64{numbers[k][row], n})
			}
		}
	}
	return numbers, nil
}

// objectsUnder numbers the objects of each side as one encoder reads them.
func (e *epochs) objectsUnder(ctx context.Context, encoder cachesink.SplitEncoder) (numbers [][]int64, err error) {
	role := cachesink.RolePos
	if encoder.Folder == "" {
		role = cachesink.RoleID
	}
	known := map[[32]byte]int64{}
	side := func(column string) ([]int64, error) {
		a, err := e.column(ctx, column)
		if err != nil {
			return nil, err
		}
		defer a.Release()
		switch a := a.(type) {
		case *array.Int64:
			return slices.Clone(a.Int64Values()), nil
		case *array.FixedSizeBinary:
			out := make([]int64, a.Len())
			for row := range out {
				out[row] = numberOf(known, [32]byte(a.Value(row)))
			}
			return out, nil
		}
		return nil, fmt.Errorf("%w: column %q is of type %v", cachesink.ErrSchema, column, a.DataType())
	}
	for _, s := range e.split().Kind.Sides() {
		one, err := side(cachesink.EncoderColumn(encoder.Name, s, role))
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, one)
	}
	return numbers, nil
}

// numberOf numbers keys in the order in which they are met.
func numberOf[K comparable](known map[K]int64, key K) int64 {
	n, ok := known[key]
	if !ok {
		n = int64(len(known))
		known[key] = n
	}
	return n
}
