package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

// The codes are a promise to programs.
func TestClassify(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(&signalError{syscall.SIGINT})
	terminated, cancel := context.WithCancelCause(t.Context())
	cancel(&signalError{syscall.SIGTERM})
	tests := []struct {
		ctx  context.Context
		err  error
		code string
		exit int
	}{
		{t.Context(), errors.New("anything"), "failed", 1},
		{t.Context(), usagef("no"), "usage", 2},
		{t.Context(), pipeline.ErrConfig, "invalid_config", 3},
		{t.Context(), fmt.Errorf("%w: %w", pipeline.ErrConfig, fs.ErrNotExist), "invalid_config", 3},
		{t.Context(), pipeline.ErrGPUUnavailable, "gpu_unavailable", 3},
		{t.Context(), pipeline.ErrWouldEncode, "would_encode", 4},
		{t.Context(), cachesink.ErrCorrupt, "corrupt", 5},
		{t.Context(), cachesink.ErrForeign, "foreign_cache", 5},
		{t.Context(), &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, "no_space", 7},
		{interrupted, context.Canceled, "interrupted", 130},
		{terminated, fmt.Errorf("read: %w", context.Canceled), "terminated", 143},
		{interrupted, usagef("no"), "usage", 2},
		{t.Context(), pipeline.ErrNotOurs, "output_not_ours", 1},
		{t.Context(), pipeline.ErrEncoder, "wrong_encoder", 1},
		{t.Context(), cachesink.ErrKeyConflict, "key_conflict", 1},
		{t.Context(), errNoCache, "no_cache", 1},
		{t.Context(), errExists, "exists", 1},
		{t.Context(), &source.RowError{Err: fs.ErrNotExist}, "bad_row", 1},
		{t.Context(), cachesink.ErrMissing, "not_found", 1},
		{t.Context(), fs.ErrNotExist, "not_found", 1},
		{t.Context(), fs.ErrPermission, "permission_denied", 1},
	}
	for _, test := range tests {
		err := fmt.Errorf("doing it: %w", test.err)
		if got := classify(test.ctx, err); got.Code != test.code || got.exit != test.exit {
			t.Errorf("%v is %s with exit code %d, want %s, %d", err, got.Code, got.exit, test.code, test.exit)
		}
	}
}

func TestFailShowsEveryProblem(t *testing.T) {
	err := errors.Join(pipeline.ErrConfig, fmt.Errorf("second"))
	var out, log bytes.Buffer
	a := &app{stdout: &out, stderr: &log}
	if code := a.fail(t.Context(), err); code != exitConfig || out.Len() > 0 {
		t.Errorf("exit code %d, standard output %q", code, &out)
	}
	if want := "pipeline: invalid configuration\npipeline: second\n"; log.String() != want {
		t.Errorf("printed %q, want %q", &log, want)
	}
	log.Reset()
	a.json = true
	a.fail(t.Context(), err)
	var doc struct {
		Error map[string]string
	}
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil || log.Len() > 0 {
		t.Fatalf("%v: %q on the standard error, %q on the standard output", err, &log, &out)
	}
	if doc.Error["code"] != "invalid_config" || !strings.Contains(doc.Error["message"], "second") {
		t.Errorf("the document is %s", &out)
	}
	if hint, ok := doc.Error["hint"]; !ok || hint != "" {
		t.Errorf("hint %q, %v", hint, ok)
	}
}

func TestWantsJSON(t *testing.T) {
	tests := map[string]bool{
		"run x --json": true, "--json run": true, "run --json=true": true, "run --json=false": false,
		"run x": false, "run -- --json": false, "run --json=maybe": false,
	}
	for line, want := range tests {
		if got := wantsJSON(strings.Fields(line)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

// Every command says what its exit codes mean and shows an example.
func TestHelp(t *testing.T) {
	for _, cmd := range (&app{}).command().Commands() {
		if cmd.Example == "" || !strings.Contains(cmd.Long, "Exit codes:\n  0    done") || !strings.Contains(cmd.Long, "130") {
			t.Errorf("%s has no example, or no exit codes:\n%s", cmd.Name(), cmd.Long)
		}
	}
}
