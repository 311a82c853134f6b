package pipeline_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/permafrost-ml/permafrost/"

// below says what of this module each room may import; a room is a folder
// with all below it, the longest one that fits.
var below = map[string][]string{
	"internal":          {"internal"},
	"stage":             {},
	"source":            {"source", "stage", "internal"},
	"encode":            {"encode", "source", "stage", "internal"},
	"cachesink":         {"cachesink", "stage", "internal"},
	"sink":              {"sink", "stage", "source", "internal"},
	"pipeline/head":     {"pipeline/head", "pipeline/train/nn", "internal"},
	"pipeline/loss":     {"pipeline/loss", "pipeline/train/nn", "internal"},
	"pipeline/metric":   {"pipeline/metric", "pipeline/train/nn", "internal"},
	"pipeline/sampler":  {"pipeline/sampler", "source", "internal"},
	"pipeline/train":    {"pipeline/train", "pipeline/head", "pipeline/loss", "pipeline/metric", "internal"},
	"pipeline/train/nn": {"internal"},
	"pipeline":          {"pipeline", "source", "encode", "cachesink", "sink", "stage", "internal"},
	"cmd":               {"cmd", "pipeline", "source", "encode", "cachesink", "sink", "stage", "internal"},
	"bench":             {"bench", "pipeline", "source", "encode", "cachesink", "sink", "stage", "internal"},
	"tools":             {"tools", "pipeline", "source", "encode", "cachesink", "sink", "stage", "internal"},
}

func roomOf(path string, rooms []string) string {
	best := ""
	for _, r := range rooms {
		if (path == r || strings.HasPrefix(path, r+"/")) && len(r) > len(best) {
			best = r
		}
	}
	return best
}

// TestImportsPointDown holds the module to its layers.
func TestImportsPointDown(t *testing.T) {
	var rooms []string
	for r := range below {
		rooms = append(rooms, r)
	}
	packages := 0
	for _, p := range list(t, "../...") {
		path, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue // another module below this folder
		}
		packages++
		room := roomOf(path, rooms)
		if room == "" {
			t.Errorf("%s is in no known room", path)
			continue
		}
		for _, imp := range p.Imports {
			if imp, ok := strings.CutPrefix(imp, module); ok && roomOf(imp, below[room]) == "" {
				t.Errorf("%s imports %s: imports point down only", path, imp)
			}
		}
	}
	if packages < 15 {
		t.Errorf("only %d packages were found", packages)
	}
}

// TestDefaultBuildIsPureGo: nothing of CUDA, no cgo of our own.
func TestDefaultBuildIsPureGo(t *testing.T) {
	seen := false
	for _, p := range list(t, "-deps", "../cmd/...", ".") {
		if strings.HasPrefix(p.ImportPath, "gorgonia.org/cu") {
			t.Errorf("the default build has %s", p.ImportPath)
		}
		if strings.HasPrefix(p.ImportPath, module) && len(p.CgoFiles) > 0 {
			t.Errorf("%s needs cgo: %v", p.ImportPath, p.CgoFiles)
		}
		seen = seen || p.ImportPath == "gorgonia.org/tensor"
	}
	if !seen {
		t.Error("the list of dependencies is not whole")
	}
}

// TestGRPCIsAtTheEdge: only what serves over a network links gRPC.
func TestGRPCIsAtTheEdge(t *testing.T) {
	serve := 0
	for _, p := range list(t, "../...") {
		path := strings.TrimPrefix(p.ImportPath, module)
		if !slices.Contains(p.Deps, "google.golang.org/grpc") {
			continue
		}
		switch {
		case path == "sink/flight", path == "pipeline/serve":
			serve++
		case !strings.HasPrefix(path, "cmd/"):
			t.Errorf("%s links gRPC", path)
		}
	}
	if serve != 2 {
		t.Error("the list of dependencies is not whole")
	}
}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
	CgoFiles   []string
}

func list(t testing.TB, args ...string) (out []listed) {
	t.Helper()
	cmd := exec.CommandContext(soon(t), "go", slices.Concat([]string{"list", "-e", "-json=ImportPath,Imports,Deps,CgoFiles"}, args)...)
	cmd.Env = userEnv // with the user's caches
	var errs bytes.Buffer
	cmd.Stderr = &errs
	b, err := cmd.Output()
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip("no go command")
		}
		t.Fatalf("go list: %v\n%s", err, errs.String())
	}
	for dec := json.NewDecoder(bytes.NewReader(b)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
}
