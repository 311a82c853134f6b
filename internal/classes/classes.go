// Package classes numbers the values of a column.
package classes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// Number numbers the values of a column of texts or integers in their sorted
// order, from 0: the number of every row's value, and the value of every
// number. Nothing of the column is kept. A row without a value is an error.
func Number(a arrow.Array) (numbers []int32, names []string, err error) {
	if a != nil && a.NullN() > 0 {
		return nil, nil, fmt.Errorf("%d rows have no value", a.NullN())
	}
	switch a := a.(type) {
	case *array.String:
		numbers, names = number(a.Len(), a.Value, strings.Clone)
	case *array.Int64:
		numbers, names = number(a.Len(), a.Value, func(v int64) string { return fmt.Sprint(v) })
	default:
		return nil, nil, fmt.Errorf("it is of type %T, not of texts or integers", a)
	}
	return numbers, names, nil
}

func number[V cmp.Ordered](n int, value func(int) V, name func(V) string) (numbers []int32, names []string) {
	known := map[V]int32{}
	var values []V
	for i := range n {
		v := value(i)
		if _, ok := known[v]; !ok {
			known[v] = 0
			values = append(values, v)
		}
	}
	slices.Sort(values)
	for i, v := range values {
		known[v] = int32(i)
		names = append(names, name(v))
	}
	numbers = make([]int32, n)
	for i := range n {
		numbers[i] = known[value(i)]
	}
	return numbers, names
}
