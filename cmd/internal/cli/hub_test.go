package cli

import (
	"archive/zip"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/permafrost-ml/permafrost/internal/models/hubtest"
)

// scriptedHub is the hub of a script, nil before hub start.
type scriptedHub struct{ *hubtest.Hub }

type hubKey struct{}

// Weights are the bytes of the weights of the models of scripts: enough to be
// killed in the middle.
const scriptWeights = 4 << 20

// scriptHub runs a hub with the repository org/tiny:
//
//	hub start              sets HF_ENDPOINT
//	hub seed N             other content, of another commit
//	hub token TOKEN        asks for a token
//	hub fault FILE KIND N  hold N, cut N, status N, retry-after N (seconds, with 429), wrong N
//	hub well FILE          no more faults
//	hub sent FILE N        checks the bytes that were sent of it since the last check
func scriptHub(ts *testscript.TestScript, neg bool, args []string) {
	h := ts.Value(hubKey{}).(*scriptedHub)
	number := func(i int) int {
		n, err := strconv.Atoi(args[i])
		ts.Check(err)
		return n
	}
	switch {
	case neg:
		ts.Fatalf("hub cannot be negated")
	case args[0] == "start":
		h.Hub = hubtest.New()
		ts.Defer(h.Close)
		h.Repo("org/tiny", hubtest.Model(1, scriptWeights))
		ts.Setenv("HF_ENDPOINT", h.URL)
		ts.Setenv("HF_TOKEN", "")
	case args[0] == "seed":
		h.Repo("org/tiny", hubtest.Model(uint64(number(1)), scriptWeights))
	case args[0] == "token":
		h.Token(args[1])
	case args[0] == "fault":
		n := number(3)
		h.Fault(args[1], map[string]hubtest.Fault{
			"hold":        {Hold: int64(n)},
			"cut":         {Cut: []int64{int64(n)}},
			"status":      {Status: slices.Repeat([]int{n}, 100)},
			"retry-after": {Status: []int{429}, RetryAfter: args[3]},
			"wrong":       {Wrong: make([]byte, n)},
		}[args[2]])
	case args[0] == "well":
		h.Fault(args[1], hubtest.Fault{})
	case args[0] == "sent":
		if got := hubtest.Sent(h.Requests(), args[1]); got != int64(number(2)) {
			ts.Fatalf("the hub sent %d bytes of %s, want %s", got, args[1], args[2])
		}
	default:
		ts.Fatalf("unknown: hub %q", args)
	}
}

// scriptModel writes the model of a seed as a folder, a .zip file or a .whl
// file: model PATH [SEED].
func scriptModel(ts *testscript.TestScript, _ bool, args []string) {
	seed := 1
	if len(args) > 1 {
		var err error
		seed, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	files := hubtest.Model(uint64(seed), scriptWeights)
	at := ts.MkAbs(args[0])
	switch filepath.Ext(at) {
	case ".zip":
		ts.Check(writeZip(at, "", files))
	case ".whl":
		ts.Check(writeZip(at, "tiny_model/model/", files))
	default:
		for name, data := range files {
			to := filepath.Join(at, filepath.FromSlash(name))
			ts.Check(errors.Join(os.MkdirAll(filepath.Dir(to), 0o777), os.WriteFile(to, data, 0o666)))
		}
	}
}

func writeZip(at, prefix string, files map[string][]byte) error {
	f, err := os.Create(at)
	if err != nil {
		return err
	}
	z := zip.NewWriter(f)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w, err := z.Create(prefix + name)
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(z.Close(), f.Close())
}
