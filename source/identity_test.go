package source_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/source"
)

func TestIdentityIsOfContent(t *testing.T) {
	const rows = "{\"text\":\"a\"}\n"
	none := source.FileOptions{NoHints: true}
	of := func(o source.FileOptions, paths ...string) string {
		return identity(t, source.JSONL[question](paths...).With(o))
	}
	first, second := write(t, "first.jsonl", rows), write(t, "second.jsonl", rows)
	same := of(none, first)
	if of(none, second) != same {
		t.Error("another name and folder give another identity")
	}
	if identity(t, source.JSONL[source.Fields](second).With(none)) != same {
		t.Error("another row type gives another identity")
	}
	csv := source.CSV[source.Fields](first)
	seen := map[string]string{"": "no identity", same: "a file"}
	for name, id := range map[string]string{
		"changed":        of(none, write(t, "first.jsonl", rows+rows)),
		"compressed":     of(none, write(t, "first.jsonl.gz", gzipped(t, rows))),
		"twice":          of(none, first, first),
		"MaxLine":        of(source.FileOptions{NoHints: true, MaxLine: 5}, first),
		"as CSV":         identity(t, csv.With(source.CSVOptions{FileOptions: none})),
		"as CSV, comma":  identity(t, csv.With(source.CSVOptions{FileOptions: none, Comma: ';'})),
		"as TSV":         identity(t, source.CSV[source.Fields](write(t, "first.tsv", rows)).With(source.CSVOptions{FileOptions: none})),
		"as CSV, column": identity(t, csv.With(source.CSVOptions{FileOptions: none, Columns: []string{"a"}})),
	} {
		if was := seen[id]; was != "" {
			t.Errorf("%s has the identity of %s", name, was)
		}
		seen[id] = name
	}
	if _, err := source.JSONL[question](filepath.Join(t.TempDir(), "absent")).Identity(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
	if _, err := source.JSONL[question](t.TempDir()).Identity(t.Context()); err == nil {
		t.Error("a directory has an identity")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.JSONL[question](first).With(none).Identity(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("hashing does not end with the context: %v", err)
	}
}

func hintFiles(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// age waits until a file's times are older than a clock's grain.
func age(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(info.ModTime().Add(2100 * time.Millisecond)))
}

func TestIdentityHints(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("there are no hints on this system")
	}
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	opts := source.FileOptions{HintDir: dir}
	path := write(t, "rows.jsonl", "{\"text\":\"a\"}\n")
	s := source.JSONL[question](path).With(opts)
	id := identity(t, s)
	if found := hintFiles(t, dir); len(found) != 0 {
		t.Fatalf("a file just written left the hints %v", found)
	}
	age(t, path)
	if identity(t, s) != id {
		t.Fatal("the identity changed with time")
	}
	if identity(t, source.JSONL[question](path).With(source.FileOptions{HintDir: path})) != id {
		t.Error("a hint folder that is a file changes the identity")
	}
	hints := hintFiles(t, dir)
	if len(hints) != 1 {
		t.Fatalf("hints %v, want one", hints)
	}

	// Only a hint can answer with the digest that is in it.
	text, err := os.ReadFile(hints[0])
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(text)
	if at := len(forged) - len(`0"}`); forged[at] != '0' {
		forged[at] = '0'
	} else {
		forged[at] = '1'
	}
	put := func(hint []byte) {
		t.Helper()
		if err := os.WriteFile(hints[0], hint, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(forged)
	if identity(t, s) == id {
		t.Error("the file was read although there is a hint")
	}
	checked := opts
	checked.CheckSources = true
	if identity(t, source.JSONL[question](path).With(checked)) != id {
		t.Error("CheckSources believes a hint")
	}
	put(forged)
	for name, src := range map[string]source.Source[question]{
		"a file": s, "a limit": source.Limit(s, 1), "a concatenation": source.Concat(s, s),
	} {
		put(forged)
		believed, err := src.Identity(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := src.Identity(source.CheckSources(t.Context())); err != nil || got == believed {
			t.Errorf("%s: a context to check sources believes a hint: %v", name, err)
		}
	}
	put(forged)
	if identity(t, source.JSONL[question](path).With(source.FileOptions{HintDir: dir, NoHints: true})) != id {
		t.Error("NoHints believes a hint")
	}
	for _, damaged := range []string{"", "{", "null", string(text[:len(text)-10]) + `"}`} {
		put([]byte(damaged))
		if identity(t, s) != id {
			t.Errorf("the hint %q is believed", damaged)
		}
	}

	// The same size and the same modification time, set back by hand.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{\"text\":\"b\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if identity(t, s) == id {
		t.Error("an edit with its time set back goes unnoticed")
	}
}

func TestIdentitiesAtOnce(t *testing.T) {
	path := write(t, "rows.jsonl", "{}")
	s := source.JSONL[question](path).With(source.FileOptions{HintDir: t.TempDir()})
	want := identity(t, s)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := s.Identity(t.Context()); err != nil || got != want {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	wg.Wait()
}

type node struct{ next *node }

func TestSliceIdentity(t *testing.T) {
	type inner struct{ hidden []string }
	type row struct {
		Text  string
		Inner *inner
		Any   any
		M     map[string]int
		F     float64
	}
	ids := map[string]string{}
	for name, rows := range map[string][]row{
		"none":          {},
		"zero":          {{}},
		"two":           {{}, {}},
		"text":          {{Text: "a"}},
		"empty pointer": {{Inner: &inner{}}},
		"empty hidden":  {{Inner: &inner{hidden: []string{}}}},
		"hidden":        {{Inner: &inner{hidden: []string{"a", "b"}}}},
		"hidden joined": {{Inner: &inner{hidden: []string{"ab"}}}},
		"int":           {{Any: 1}},
		"int64":         {{Any: int64(1)}},
		"empty map":     {{M: map[string]int{}}},
		"map":           {{M: map[string]int{"a": 1, "b": 2}}},
		"map swapped":   {{M: map[string]int{"a": 2, "b": 1}}},
		"minus zero":    {{F: math.Copysign(0, -1)}},
	} {
		id := identity(t, source.Slice(rows))
		if id == "" || ids[id] != "" {
			t.Errorf("%s: identity %q is that of %q", name, id, ids[id])
		}
		ids[id] = name
		if again := identity(t, source.Slice(rows)); again != id {
			t.Errorf("%s: identity is %s, then %s", name, id, again)
		}
	}
	cycle := &node{}
	cycle.next = cycle
	for name, id := range map[string]string{
		"function": identity(t, source.Slice([]func(){nil})),
		"time":     identity(t, source.Slice([]time.Time{{}})),
		"cycle":    identity(t, source.Slice([]*node{cycle})),
		"any":      identity(t, source.Slice([]any{struct{ f func() }{}})),
	} {
		if id != "" {
			t.Errorf("%s: identity %q of what cannot be known", name, id)
		}
	}
}

func TestSeq(t *testing.T) {
	broken := errors.New("broken")
	seq := func(yield func(string, error) bool) {
		_ = yield("a", nil) && yield("", &source.RowError{Err: errors.New("odd")}) && yield("b", nil) && yield("", broken) && yield("c", nil)
	}
	s := source.Seq("letters", iter.Seq2[string, error](seq))
	good, bad, err := collect(s.Rows(t.Context()))
	if len(good) != 2 || good[1].Value != "b" || good[1].Pos != (source.Pos{Name: "letters", Line: 3}) {
		t.Errorf("rows %v", good)
	}
	if len(bad) != 1 || bad[0].Error() != "letters:2: odd" {
		t.Errorf("bad rows %v", bad)
	}
	if !errors.Is(err, broken) || err.Error() != "letters:4: broken" {
		t.Errorf("the pass ended with %v", err)
	}
	if id := identity(t, s); id != "" {
		t.Errorf("identity %q of a sequence that declares none", id)
	}
	v1, v2 := identity(t, s.WithVersion("1")), identity(t, s.WithVersion("2"))
	if v1 == "" || v1 == v2 || v1 == identity(t, source.Seq("others", iter.Seq2[string, error](seq)).WithVersion("1")) {
		t.Errorf("versions 1 and 2 have identities %q and %q", v1, v2)
	}
	type key struct{}
	ctxSeq := source.SeqFunc("context", func(ctx context.Context) iter.Seq2[any, error] {
		return func(yield func(any, error) bool) { yield(ctx.Value(key{}), nil) }
	})
	for row, err := range ctxSeq.Rows(context.WithValue(t.Context(), key{}, 7)) {
		if err != nil || row.Value != 7 {
			t.Errorf("the iterator got %v, %v", row.Value, err)
		}
	}
}

func TestSliceRows(t *testing.T) {
	good, _, err := collect(source.Slice([]string{"a", "b"}).Rows(t.Context()))
	if err != nil || len(good) != 2 || good[1].Value != "b" || good[1].Pos.String() != "slice:2" {
		t.Errorf("rows %v, error %v", good, err)
	}
	for row := range source.Slice([]string{"a", "b"}).Rows(t.Context()) {
		if row.Value != "a" {
			t.Error("a pass goes on after its consumer stopped")
		}
		break
	}
}
