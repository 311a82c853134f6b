package cachesink

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
)

// killedEnv makes the test program do an operation in a directory, as
// NAME=DIR, instead of testing.
const killedEnv = "CACHESINK_TEST_KILLED"

// The phases of an operation, as its process tells them: by a byte each time
// that it enters one.
const (
	phaseEncode   = 'e'
	phaseShard    = 's' // a shard is being closed
	phaseManifest = 'm' // splits and manifest get their names
	phaseDelete   = 'r' // files are deleted
	phaseDone     = 'd' // the manifest has its name, and nothing more is to be done
)

var phaseNames = map[byte]string{phaseEncode: "encode", phaseShard: "shard close", phaseManifest: "manifest", phaseDelete: "delete"}

// killable are the operations that are killed, and the phases that they have.
func killable() []killedOperation {
	s := setup{
		splits: map[string][]encode.Sample{"train": groups("a", 90, 80), "val": pairs("b", 20)},
		uses:   []encode.Use{{Name: "e"}, {Name: "f"}, {Name: "raw"}}, uncached: []string{"raw"}, workers: 3,
		models: map[string]hashModel{"e": {dim: 8, seed: "e"}, "f": {dim: 300, seed: "f"}},
	}
	changed := setup{
		splits: map[string][]encode.Sample{"train": append(groups("c", 30, 30), groups("a", 9, 9)...), "val": pairs("d", 21)},
		uses:   s.uses, uncached: s.uncached, models: s.models,
	}
	compact := collecting(GCOptions{Compact: true, ShardObjects: 32})
	wide := s // several blocks a shard
	wide.models = map[string]hashModel{"e": {dim: 6000, seed: "e"}, "f": {dim: 300, seed: "f"}}
	return []killedOperation{{
		operation: operation{
			name: "repair", hurt: &wide, before: damaged(wide, 0, 1, 2, 3, 4, 5, 6, 7, 8), act: repairOf(wide),
			states: []func(*testing.T, *Cache){holds(wide)},
		},
		child: func(ctx context.Context, st Storage, enter func(byte)) error {
			return repairOf(telling(wide, enter))(ctx, st, memory.DefaultAllocator)
		},
		phases: []byte{phaseEncode, phaseShard},
	}, {
		operation: operation{
			name: "compact", before: fills(s, changed), act: compact, otherNumber: true,
			states: []func(*testing.T, *Cache){holds(s, changed), holds(changed)},
		},
		child: func(ctx context.Context, st Storage, _ func(byte)) error {
			return compact(ctx, st, memory.DefaultAllocator)
		},
		phases: []byte{phaseShard, phaseManifest, phaseDelete},
	}, {
		operation: operation{
			name: "fill", states: []func(*testing.T, *Cache){holds(), holds(s)}, act: fillOf(s),
		},
		child: func(ctx context.Context, st Storage, enter func(byte)) error {
			return fillOf(telling(s, enter))(ctx, st, memory.DefaultAllocator)
		},
		phases: []byte{phaseEncode, phaseShard, phaseManifest},
	}}
}

// telling is a setup whose encoders take their time, and say so.
func telling(s setup, enter func(byte)) setup {
	s.models = maps.Clone(s.models)
	for name, m := range s.models {
		m.starts = func() {
			enter(phaseEncode)
			time.Sleep(time.Millisecond)
		}
		s.models[name] = m
	}
	return s
}

type killedOperation struct {
	operation
	// child does the operation and says when it enters a phase; the phases
	// that can be seen by what it does to files are entered without it.
	child  func(ctx context.Context, st Storage, enter func(byte)) error
	phases []byte
}

// beKilled does an operation and tells its parent the phases.
func beKilled(spec string) {
	name, dir, _ := strings.Cut(spec, "=")
	tell := &teller{FS: store.OS{}, pipe: os.NewFile(3, "phases")}
	for _, o := range killable() {
		if o.name == name {
			if tell.after = phaseDone; slices.Contains(o.phases, phaseDelete) {
				tell.after = phaseDelete
			}
			if err := o.child(context.Background(), store.NewDir(dir, tell), tell.enter); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
}

// teller is a filesystem that tells what its steps are for.
type teller struct {
	store.FS
	pipe    *os.File
	mu      sync.Mutex
	closing bool // a shard
	at      byte
	after   byte // the phase after the manifest
}

func (t *teller) enter(phase byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at == phaseDone || t.at == phaseDelete && phase != phaseDelete || phase == phaseEncode && (t.closing || t.at == phaseManifest) {
		return // it goes on in the background
	}
	t.at = phase
	_, _ = t.pipe.Write([]byte{phase})
}

// named tells the phase that begins when a file is to get its name. A
// shard's checksums come before it.
func (t *teller) named(name string) {
	switch dir := filepath.ToSlash(name); {
	case strings.Contains(dir, "/encoders/"):
		t.mu.Lock()
		t.closing = strings.HasSuffix(name, sumSuffix)
		t.mu.Unlock()
		t.enter(phaseShard)
	case strings.Contains(dir, "/splits/"), strings.Contains(dir, "/inputs/"), strings.Contains(dir, "/manifests/"):
		t.enter(phaseManifest)
	}
}

func (t *teller) Rename(from, to string) error {
	t.named(to)
	return t.FS.Rename(from, to)
}

func (t *teller) Link(from, to string) error {
	t.named(to)
	err := t.FS.Link(from, to)
	if err == nil && strings.Contains(filepath.ToSlash(to), "/manifests/") {
		t.enter(t.after)
	}
	return err
}

func (t *teller) Remove(name string) error {
	t.mu.Lock()
	deletes := t.at == phaseDelete
	t.mu.Unlock()
	if deletes {
		t.enter(phaseDelete)
	}
	return t.FS.Remove(name)
}

func (t *teller) SyncDir(dir string) error {
	t.named(dir + "/")
	return t.FS.SyncDir(dir)
}

// TestKilledInEveryPhase ends the process of an operation with SIGKILL at random moments
// of each of its phases, some times in one place, before the operation has
// come to its end: at any time the cache holds one of the operation's states.
// Then a process that nobody kills leaves the bytes of a run without kills.
func TestKilledInEveryPhase(t *testing.T) {
	t.Parallel()
	kills := 20
	if v := os.Getenv(killsEnv); v != "" {
		var err error
		if kills, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range killable() {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			whole := t.TempDir()
			prepare(t, o.operation, whole)
			if err := o.act(t.Context(), quickDir(whole), memory.DefaultAllocator); err != nil {
				t.Fatal(err)
			}
			in := &interrupted{operation: &o.operation, clean: counting(files(t, whole))}
			rng := rand.New(rand.NewPCG(uint64(kills), 7))
			histogram := map[byte]int{}
			missed, rounds := 0, 0
			dir := filepath.Join(t.TempDir(), "cache")
			for n := 0; n < kills; rounds++ {
				in.first = prepare(t, o.operation, dir)
				for range 1 + rng.IntN(6) {
					target := o.phases[n%len(o.phases)]
					at, ended := o.kill(t, dir, target, rng)
					in.what = fmt.Sprintf("killed %d times, at last in %q", n, at)
					if ended {
						missed++
						break
					}
					in.onDisk(t, dir, false)
					histogram[at]++
					if n++; n == kills {
						break
					}
				}
				long(t, dir)
				if err := o.act(t.Context(), quickDir(dir), memory.DefaultAllocator); err != nil {
					t.Fatalf("%s, then: %v", in.what, err)
				}
				in.onDisk(t, dir, true)
				in.same(t, counting(files(t, dir)))
				if t.Failed() {
					t.FailNow()
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range o.phases {
				t.Logf("%5d kills in %s", histogram[p], phaseNames[p])
				if histogram[p] < kills/10 {
					t.Errorf("%d kills in %s", histogram[p], phaseNames[p])
				}
			}
			t.Logf("%5d kills in %d directories; %d processes came to their end before", kills, rounds, missed)
		})
	}
}

// prepare makes what an operation starts from, and returns its generation.
func prepare(t *testing.T, o operation, dir string) int64 {
	t.Helper()
	if o.before != nil {
		if err := o.before(t.Context(), quickDir(dir)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Open(t.Context(), quickDir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Manifest().Generation
}

// long makes all files of a directory old: what processes have left that were
// killed long ago.
func long(t *testing.T, dir string) {
	t.Helper()
	then := time.Now().Add(-48 * time.Hour)
	for name := range files(t, dir) {
		if err := os.Chtimes(filepath.Join(dir, name), then, then); err != nil {
			t.Fatal(err)
		}
	}
}

// onDisk checks that a directory holds one of the operation's states; ended
// says that the operation has come to its end.
func (in *interrupted) onDisk(t *testing.T, dir string, ended bool) {
	t.Helper()
	c, err := Open(t.Context(), Dir(dir), nil)
	if err != nil {
		t.Fatalf("%s: %v", in.what, err)
	}
	commits := c.Manifest().Generation - in.first
	if last := int64(len(in.states) - 1); commits > last && in.otherNumber {
		commits = last
	} else if commits < 0 || commits > last {
		t.Fatalf("%s: %d commits", in.what, commits)
	}
	if in.hurt != nil && !ended {
		refuses(t, c, *in.hurt)
	} else {
		in.states[commits](t, c)
	}
	if t.Failed() {
		t.Fatal(in.what)
	}
}

// marks is how often an operation enters a phase, about.
func (o *killedOperation) marks(phase byte) int {
	switch {
	case phase == phaseManifest:
		return 8
	case phase == phaseShard && o.phases[0] != phaseEncode:
		return 10
	}
	return 20
}

// kill runs the operation in a process of its own and kills that a random
// time after one of the moments at which it enters a phase. It returns the
// phase that it was in, and whether the operation had come to its end.
func (o *killedOperation) kill(t *testing.T, dir string, target byte, rng *rand.Rand) (at byte, ended bool) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedEnv+"="+o.name+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	at = phaseEncode
	wait := time.Duration(rng.IntN(400)) * time.Microsecond
	left := 1 + rng.IntN(o.marks(target))
	killed := false
	for in := bufio.NewReaderSize(r, 16); ; {
		b, err := in.ReadByte()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if at = b; b == target {
			left--
		}
		if left == 0 && !killed {
			killed = true
			for start := time.Now(); time.Since(start) < wait; {
				runtime.Gosched()
			}
			_ = cmd.Process.Kill()
		}
	}
	err = cmd.Wait()
	if !killed && err != nil {
		t.Fatalf("%s: %v", o.name, err)
	}
	return at, at == phaseDone || !slices.Contains(o.phases, at) || err == nil
}
