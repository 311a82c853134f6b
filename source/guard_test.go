package source_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

const mixedRows = "{\"text\":\"a\"}\nnonsense \"<x>\"\n{\"text\":\"b\"}\n\xff\n{\"text\":\"c\"}\n"

func guard(t *testing.T, policy source.OnError, path string) *source.Guard {
	t.Helper()
	g, err := source.NewGuard(policy, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func TestGuardFails(t *testing.T) {
	path := write(t, "rows.jsonl", mixedRows)
	for _, policy := range []source.OnError{"", source.Fail} {
		g := guard(t, policy, "")
		n := 0
		var last error
		for _, err := range source.Guarded(source.JSONL[question](path).Rows(t.Context()), g) {
			n++
			last = err
		}
		if bad := (*source.RowError)(nil); n != 2 || !errors.As(last, &bad) || bad.Pos.Line != 2 || g.Count() != 0 {
			t.Errorf("policy %q: %d turns, the last with %v, count %d", policy, n, last, g.Count())
		}
	}
}

func TestGuardSkips(t *testing.T) {
	g := guard(t, source.Skip, "")
	good, bad, err := collect(source.Guarded(source.JSONL[question](write(t, "rows.jsonl", mixedRows)).Rows(t.Context()), g))
	if err != nil || len(bad) != 0 || len(good) != 3 || g.Count() != 2 || g.Path() != "" {
		t.Errorf("good %v, bad %v, error %v, count %d", good, bad, err, g.Count())
	}
}

func TestGuardQuarantines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bad.jsonl")
	g := guard(t, source.Quarantine, file)
	rows := write(t, "rows.jsonl", mixedRows)
	for range source.Guarded(source.JSONL[question](write(t, "good.jsonl", "{}")).Rows(t.Context()), g) {
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) || g.Path() != "" {
			t.Errorf("without a bad row there is %s: %v", g.Path(), err)
		}
	}
	good, bad, err := collect(source.Guarded(source.JSONL[question](rows).Rows(t.Context()), g))
	if err != nil || len(bad) != 0 || len(good) != 3 || g.Count() != 2 || g.Path() != file {
		t.Errorf("good %v, bad %v, error %v, count %d", good, bad, err, g.Count())
	}
	if err := g.Handle(&source.RowError{Pos: source.Pos{Name: "mapped", Line: 3}, Err: errors.New("no label")}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file) // before Close: every row is there at once
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		File, Reason string
		Line         int64
		Row          *string
		RowBase64    []byte `json:"row_base64"`
	}
	var lines []line
	for l := range bytes.Lines(text) {
		var got line
		if err := json.Unmarshal(l, &got); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, got)
	}
	if len(lines) != 3 {
		t.Fatalf("the quarantine is %s", text)
	}
	if l := lines[0]; l.File != rows || l.Line != 2 || l.Row == nil || *l.Row != `nonsense "<x>"` || !strings.Contains(l.Reason, "JSON object") {
		t.Errorf("first line %+v", l)
	}
	if l := lines[1]; l.Line != 4 || l.Row != nil || string(l.RowBase64) != "\xff" {
		t.Errorf("second line %+v", l)
	}
	if l := lines[2]; l.File != "mapped" || l.Row != nil || l.RowBase64 != nil || l.Reason != "no label" {
		t.Errorf("third line %+v", l)
	}
}

func TestGuardReportsWhatItCannotWrite(t *testing.T) {
	if _, err := source.NewGuard("ignore", ""); err == nil {
		t.Error("there is a policy called ignore")
	}
	if _, err := source.NewGuard(source.Quarantine, ""); err == nil {
		t.Error("a quarantine needs no file")
	}
	if _, err := source.NewGuard(source.Quarantine, filepath.Join(t.TempDir(), "absent", "bad.jsonl")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder gives %v", err)
	}
	g := guard(t, source.Quarantine, t.TempDir())
	err := g.Handle(&source.RowError{Err: errors.New("bad")})
	if rowErr := (*source.RowError)(nil); err == nil || errors.As(err, &rowErr) || g.Count() != 0 {
		t.Errorf("a row that could not be written gives %v, count %d", err, g.Count())
	}
}

func TestGuardIsConcurrent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bad.jsonl")
	g := guard(t, source.Quarantine, file)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := g.Handle(&source.RowError{Pos: source.Pos{Line: int64(i)}, Err: errors.New("bad")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(file)
	if err != nil || bytes.Count(text, []byte("\n")) != 400 || g.Count() != 400 {
		t.Errorf("%d lines, count %d, error %v", bytes.Count(text, []byte("\n")), g.Count(), err)
	}
}
