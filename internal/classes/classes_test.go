package classes_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/classes"
)

// TestNumber: texts sort as texts, integers as integers.
func TestNumber(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	texts := array.NewStringBuilder(mem)
	defer texts.Release()
	texts.AppendValues([]string{"10", "9", "", "10"}, nil)
	numbers := array.NewInt64Builder(mem)
	defer numbers.Release()
	numbers.AppendValues([]int64{10, 9, -3, 10}, nil)
	for _, test := range []struct {
		a     arrow.Array
		want  []int32
		names []string
	}{
		{texts.NewArray(), []int32{1, 2, 0, 1}, []string{"", "10", "9"}},
		{numbers.NewArray(), []int32{2, 1, 0, 2}, []string{"-3", "9", "10"}},
		{texts.NewArray(), []int32{}, nil},
	} {
		got, names, err := classes.Number(test.a)
		test.a.Release() // nothing of it is kept
		if err != nil || !slices.Equal(got, test.want) || !slices.Equal(names, test.names) {
			t.Errorf("%v are %q (%v), want %v, %q", got, names, err, test.want, test.names)
		}
	}
	numbers.AppendNull()
	nulls := numbers.NewArray()
	defer nulls.Release()
	bools := array.NewBooleanBuilder(mem)
	defer bools.Release()
	other := bools.NewArray()
	defer other.Release()
	for want, a := range map[string]arrow.Array{"1 rows have no value": nulls, "not of texts or integers": other, "of type <nil>": nil} {
		if _, _, err := classes.Number(a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
