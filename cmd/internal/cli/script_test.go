package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/permafrost-ml/permafrost/sink/qdrant/qdranttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pipeline": Main, "forge": forge})
}

// Every script is a user's session with the real program.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".user-cache"))
			root, err := filepath.Abs(filepath.Join("..", "..", ".."))
			env.Setenv("COLUMNS", filepath.Join(root, "source", "testdata", "columns"))   // a table as files of columns
			env.Setenv("BERT", filepath.Join(root, "encode", "bert", "testdata", "bert")) // a tiny model
			env.Values[hubKey{}] = &scriptedHub{}
			env.Values[qdrantServer{}] = qdranttest.New(t)
			return err
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "mount": // whether a namespace of its own can have mounts
				return runtime.GOOS == "linux" && exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt").Run() == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"rc":     scriptRC,
			"rows":   scriptRows,
			"flip":   scriptFlip,
			"await":  scriptAwait,
			"json":   scriptJSON,
			"same":   scriptSame,
			"lines":  scriptLines,
			"arrows": scriptArrows,
			"flight": scriptFlight,
			"qdrant": scriptQdrant,
			"hub":    scriptHub,
			"model":  scriptModel,
		},
	})
}

// scriptRC runs a command that must end with an exit code: rc 3 pipeline ...
func scriptRC(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: rc CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// scriptRows writes a file of N pairs of random sentences: rows N FILE.
func scriptRows(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	words := strings.Fields("account backup billing cluster disk export firewall group host image key limit network policy quota region snapshot token user volume")
	rng := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for i := range n {
		sentence := func(words []string) string {
			var s []string
			for range 24 {
				s = append(s, words[rng.IntN(len(words))])
			}
			return strings.Join(s, " ")
		}
		fmt.Fprintf(&b, "{\"question\": %q, \"answer\": %q}\n", fmt.Sprint(i, " ", sentence(words)), fmt.Sprint(sentence(words), " ", i))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o644))
}

// scriptFlip inverts a byte in the middle of the file that a pattern names.
func scriptFlip(ts *testscript.TestScript, _ bool, args []string) {
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%s matches %q", args[0], found)
	}
	b, err := os.ReadFile(found[0])
	ts.Check(err)
	b[len(b)/2] ^= 0xff
	ts.Check(os.Remove(found[0])) // published files are read-only
	ts.Check(os.WriteFile(found[0], b, 0o644))
}

// scriptAwait waits until a pattern matches a file, of a size if one is
// given, or of +SIZE at least: await PATTERN [SIZE].
func scriptAwait(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		found, _ := filepath.Glob(ts.MkAbs(args[0]))
		if len(found) > 0 && len(args) < 2 {
			return
		}
		for _, name := range found {
			info, err := os.Stat(name)
			if err != nil {
				continue
			}
			least, atLeast := strings.CutPrefix(args[1], "+")
			size, err := strconv.ParseInt(least, 10, 64)
			ts.Check(err)
			if info.Size() == size || atLeast && info.Size() > size {
				return
			}
		}
	}
	ts.Fatalf("no %s after 30 s", args[0])
}

// scriptSame holds a key of two JSON documents to one value: same FILE FILE
// KEY.
func scriptSame(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: same FILE FILE KEY")
	}
	var values [2]string
	for i, name := range args[:2] {
		var doc map[string]json.RawMessage
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(name)), &doc))
		if values[i] = string(doc[args[2]]); values[i] == "" {
			ts.Fatalf("no %q in %s", args[2], name)
		}
	}
	if values[0] != values[1] {
		ts.Fatalf("%s is\n%s in %s and\n%s in %s", args[2], values[0], args[0], values[1], args[1])
	}
}

// scriptJSON checks that a file (or stdout) is exactly one JSON document and
// that the value at a path (a.b.0) is the given one, or just is there.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	dec.UseNumber()
	var v any
	ts.Check(dec.Decode(&v))
	if dec.More() {
		ts.Fatalf("%s holds more than one document", args[0])
	}
	for p := range strings.SplitSeq(args[1], ".") {
		switch x := v.(type) {
		case map[string]any:
			next, ok := x[p]
			if !ok && neg {
				return
			}
			if !ok {
				ts.Fatalf("no %q on the path %s", p, args[1])
			}
			v = next
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i >= len(x) {
				ts.Fatalf("no item %q on the path %s", p, args[1])
			}
			v = x[i]
		default:
			ts.Fatalf("%q on the path %s is inside %v", p, args[1], v)
		}
	}
	got := fmt.Sprint(v)
	if len(args) == 2 {
		if neg {
			ts.Fatalf("%s is there: %s", args[1], got)
		}
		return
	}
	if (got == args[2]) == neg {
		ts.Fatalf("%s is %s, want %s (not: %v)", args[1], got, args[2], neg)
	}
}

// scriptLines checks that a file has N lines, each a JSON object with an
// embedding of DIM values where DIM is given: lines FILE N [DIM].
func scriptLines(ts *testscript.TestScript, _ bool, args []string) {
	n := 0
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		n++
		if len(args) < 3 {
			continue
		}
		var row struct{ Embedding []float32 }
		ts.Check(json.Unmarshal([]byte(line), &row))
		if strconv.Itoa(len(row.Embedding)) != args[2] {
			ts.Fatalf("line %d has %d values, want %s", n, len(row.Embedding), args[2])
		}
	}
	if strconv.Itoa(n) != args[1] {
		ts.Fatalf("%s has %d lines, want %s", args[0], n, args[1])
	}
}

// scriptArrows checks the rows and the schema of an Arrow stream, and that it
// holds the values of a file of JSON lines: arrows FILE N JSONL.
func scriptArrows(ts *testscript.TestScript, _ bool, args []string) {
	r, err := ipc.NewReader(strings.NewReader(ts.ReadFile(args[0])))
	ts.Check(err)
	defer r.Release()
	if got := r.Schema().Field(0).String(); !strings.Contains(got, "embedding: type=fixed_size_list<item: float32, nullable>[256]") {
		ts.Fatalf("the column is %s", got)
	}
	var got bytes.Buffer
	n := int64(0)
	for r.Next() {
		n += r.Record().NumRows()
		for i := range int(r.Record().NumRows()) {
			fmt.Fprintf(&got, "{\"embedding\":%s}\n", r.Record().Column(0).ValueStr(i))
		}
	}
	ts.Check(r.Err())
	if strconv.FormatInt(n, 10) != args[1] {
		ts.Fatalf("%d rows, want %s", n, args[1])
	}
	norm := func(s string) []float32 {
		var out []float32
		for line := range strings.Lines(s) {
			var row struct{ Embedding []float32 }
			ts.Check(json.Unmarshal([]byte(line), &row))
			out = append(out, row.Embedding...)
		}
		return out
	}
	if fmt.Sprint(norm(got.String())) != fmt.Sprint(norm(ts.ReadFile(args[2]))) {
		ts.Fatalf("%s and %s hold different values", args[0], args[2])
	}
}
