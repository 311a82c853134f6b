package source_test

import (
	"errors"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/source"
)

// No source leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// write makes a file in a new folder.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// collect returns the rows of a pass, its bad rows and the error that ended it.
func collect[T any](rows iter.Seq2[source.Row[T], error]) (good []source.Row[T], bad []*source.RowError, end error) {
	for row, err := range rows {
		rowErr := (*source.RowError)(nil)
		switch {
		case errors.As(err, &rowErr):
			bad = append(bad, rowErr)
		case err != nil:
			return good, bad, err
		default:
			good = append(good, row)
		}
	}
	return good, bad, nil
}

// values is collect for passes in which nothing may be bad.
func values[T any](t testing.TB, s source.Source[T]) []T {
	t.Helper()
	good, bad, err := collect(s.Rows(t.Context()))
	if err != nil || len(bad) > 0 {
		t.Fatalf("%s: bad rows %v, error %v", s.Name(), bad, err)
	}
	list := make([]T, len(good))
	for i, row := range good {
		list[i] = row.Value
	}
	return list
}

func identity[T any](t testing.TB, s source.Source[T]) string {
	t.Helper()
	id, err := s.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}
