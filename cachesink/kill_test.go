package cachesink

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/encode"
)

// jobEnv makes the test program fill a directory instead of testing: a job in
// JSON.
const jobEnv = "CACHESINK_TEST_FILL"

// killsEnv is how many kills TestKilled is to come to; 20 where it is not set.
const killsEnv = "CACHESINK_TEST_KILLS"

// job is a fill in a process of its own.
type job struct {
	Dir      string
	Log      string // to which every batch is written before it is encoded
	Workers  int
	Padded   bool // embeddings depend on their batch
	Prepares bool
	Alone    bool          // without leases
	Pause    time.Duration // of the encoder, in each batch
	TTL      time.Duration // 0 for the usual one
}

// jobObjects are the distinct objects of a job, in batches of jobBatch.
const (
	jobObjects = 80
	jobBatch   = 3
)

func (j job) setup() setup {
	s := setup{
		splits:  map[string][]encode.Sample{"train": groups("a", 60, 60), "val": pairs("b", 20)},
		models:  map[string]hashModel{"e": {dim: 8, seed: "e", padded: j.Padded}},
		workers: j.Workers, batch: jobBatch, prepares: j.Prepares,
	}
	if j.Alone {
		s.leases = func(Storage, FillOptions) leases { return noLeases{} }
	}
	return s
}

// doJob is what the process of a job does.
func doJob(text string) {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		panic(err)
	}
	if j.TTL > 0 {
		leaseTTL = j.TTL
	}
	log, err := os.OpenFile(j.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	s := j.setup()
	m := s.models["e"]
	m.log = func(objects int) {
		fmt.Fprintf(log, "encoded %d\n", objects)
		time.Sleep(j.Pause)
	}
	s.models["e"] = m
	if !j.Alone {
		s.leases = func(st Storage, o FillOptions) leases {
			e := o.Encoders[0]
			return loggedLeases{newSession(context.Background(), st, []string{EncoderFolder(e.Name, e.Fingerprint, Float32)}), log}
		}
	}
	if _, _, err := s.run(context.Background(), quickDir(j.Dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// loggedLeases note what they take over.
type loggedLeases struct {
	leases
	log *os.File
}

func (l loggedLeases) claim(ctx context.Context, shard, name string) (held, took bool, other string) {
	if held, took, other = l.leases.claim(ctx, shard, name); took {
		fmt.Fprintln(l.log, "took 1")
	}
	return held, took, other
}

// start starts a job's process.
func (j job) start(t *testing.T) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), jobEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// logged adds up the numbers behind a word in a job's log.
func logged(t *testing.T, log, word string) (sum int) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(word+" ")); ok {
			n, err := strconv.Atoi(string(bytes.TrimSpace(rest)))
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// settled compares a directory after killed fills with one that nobody
// disturbed. A last fill, which encodes nothing, tidies up what was left.
func (j job) settled(t *testing.T, want map[string]string) {
	t.Helper()
	s := j.setup()
	c, stats := mustRun(t, s, quickDir(j.Dir))
	if !j.Padded {
		checkContent(t, c, s)
	}
	if got := stats.Encoders["e"].Encoded; got != 0 {
		t.Errorf("encoded %d again", got)
	}
	got := files(t, j.Dir)
	for name := range got {
		if strings.HasPrefix(name, "tmp/") {
			delete(got, name) // what the killed ones left
		}
	}
	got[manifestCopy] = want[manifestCopy] // may be missing
	sameFiles(t, "after the kills", got, want)
}

// undisturbed returns the files of a fill of the job that nobody disturbs.
func (j job) undisturbed(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	s := j.setup()
	s.workers, s.prepares = 1, false
	mustRun(t, s, quickDir(dir))
	return files(t, dir)
}

// TestKilled ends the process of a fill with SIGKILL at many moments, over
// and over in one place, until a fill comes to its end. At any time the cache
// is empty or complete; at the end its bytes are those of a fill that nobody
// killed, and a kill has cost at most a batch of each worker.
func TestKilled(t *testing.T) {
	t.Parallel()
	want := 20
	if text := os.Getenv(killsEnv); text != "" {
		var err error
		if want, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	kills, cost := 0, 0
	for round := 0; kills < want && !t.Failed(); round++ {
		j := job{
			Dir: t.TempDir(), Log: filepath.Join(t.TempDir(), "log"), Pause: 2 * time.Millisecond,
			Workers: []int{1, 2, 4}[round%3], Padded: round%2 == 1, Prepares: round/2%2 == 1,
		}
		n, extra := j.killed(t)
		kills, cost = kills+n, cost+extra
	}
	t.Logf("killed %d times, which cost %d objects", kills, cost)
}

// killed kills a job until it comes to its end, and returns how often, and
// how many objects were encoded more than once.
func (j job) killed(t *testing.T) (kills, extra int) {
	t.Helper()
	for {
		cmd := j.start(t)
		// Longer and longer, as a busy machine may take long to start a process.
		wait := time.Duration(rand.Int64N(int64(100*time.Millisecond) * int64(1+kills/10)))
		timer := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		c, e := Open(t.Context(), quickDir(j.Dir), nil)
		if e != nil {
			t.Fatal(e)
		}
		if c.Manifest().Generation > 0 {
			break
		}
		if err == nil {
			t.Fatal("the fill ended, and nothing is there")
		}
		kills++
	}
	extra = logged(t, j.Log, "encoded") - jobObjects
	if most := kills * j.Workers * jobBatch; extra < 0 || extra > most {
		t.Errorf("%+v, killed %d times: encoded %d objects more than there are, at most %d should be", j, kills, extra, most)
	}
	j.settled(t, j.undisturbed(t))
	return kills, extra
}
