package source_test

import (
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

func TestLimit(t *testing.T) {
	letters := source.Slice([]string{"a", "b", "c"})
	for n, want := range map[int64][]string{0: {"a", "b", "c"}, 1: {"a"}, 3: {"a", "b", "c"}, 9: {"a", "b", "c"}} {
		if got := values(t, source.Limit(letters, n)); !slices.Equal(got, want) {
			t.Errorf("limit %d: %v", n, got)
		}
	}
	ids := []string{identity(t, letters), identity(t, source.Limit(letters, 2)), identity(t, source.Limit(letters, 3))}
	if slices.Sort(ids); len(slices.Compact(ids)) != 3 || ids[0] == "" {
		t.Errorf("identities %v", ids)
	}
	unknown := source.Seq("unknown", iter.Seq2[string, error](func(yield func(string, error) bool) {
		if yield("a", nil) {
			t.Error("the source is asked for more than the limit")
		}
	}))
	limited := source.Limit(unknown, 1)
	if got := values(t, limited); !slices.Equal(got, []string{"a"}) || identity(t, limited) != "" || limited.Name() != "unknown" {
		t.Errorf("%s: rows %v, identity %q", limited.Name(), got, identity(t, limited))
	}
	mixed := source.Limit(source.JSONL[question](write(t, "rows.jsonl", mixedRows)), 2)
	if good, bad, err := collect(mixed.Rows(t.Context())); len(good) != 2 || len(bad) != 1 || err != nil {
		t.Errorf("good %v, bad %v, error %v", good, bad, err)
	}
}

func TestConcat(t *testing.T) {
	a, b := source.Slice([]string{"a", "b"}), source.Slice([]string{"c"})
	both := source.Concat[string](a, b)
	if got := values(t, both); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("rows %v", got)
	}
	if both.Name() != "slice, slice" {
		t.Errorf("name %s", both.Name())
	}
	ids := []string{identity(t, both), identity(t, source.Concat[string](b, a)), identity(t, source.Concat[string](a)), identity(t, a)}
	if slices.Sort(ids); len(slices.Compact(ids)) != 4 || ids[0] == "" {
		t.Errorf("identities %v", ids)
	}
	broken := errors.New("broken")
	bad := source.Seq("bad", iter.Seq2[string, error](func(yield func(string, error) bool) { yield("", broken) }))
	good, _, err := collect(source.Concat[string](a, bad, b).Rows(t.Context()))
	if len(good) != 2 || !errors.Is(err, broken) {
		t.Errorf("rows %v, error %v", good, err)
	}
	turns := 0
	for range source.Concat[string](a, bad, b).Rows(t.Context()) {
		turns++
	}
	if turns != 3 {
		t.Errorf("%d turns: an error does not end the pass", turns)
	}
}
