package cachesink

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// testSession is a session of this process that stands still: it never beats.
func testSession(t *testing.T, st Storage, ttl time.Duration, encoders ...string) *session {
	t.Helper()
	s, ok := newSession(t.Context(), st, encoders).(*session)
	if !ok {
		t.Fatal("no leases can be made")
	}
	close(s.quit)
	<-s.done
	s.quit, s.ttl = make(chan struct{}), ttl
	return s
}

// foreign makes a session look like one of another machine, or of a process
// that has ended.
func foreign(t *testing.T, dir string, s *session, o owner) {
	t.Helper()
	b, err := json.Marshal(sessionHead{leaseFormat, o, []string{"encoders/x"}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "leases", s.nonce+sessionSuffix), append(b, '\n'), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func deadOwner(t *testing.T) owner {
	t.Helper()
	o := self()
	if o.Machine == "" {
		t.Skip("the system does not tell processes apart")
	}
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Skip(err)
	}
	o.PID = cmd.Process.Pid
	return o
}

func TestLeases(t *testing.T) {
	dir := t.TempDir()
	st := quickDir(dir)
	a, b := testSession(t, st, time.Hour), testSession(t, st, time.Hour)
	claim := func(s *session, shard string, wantHeld, wantTook bool, wantOther string) {
		t.Helper()
		held, took, other := s.claim(t.Context(), shard, shard+"-file")
		if held != wantHeld || took != wantTook || other != wantOther {
			t.Fatalf("held %v, took %v, other %q", held, took, other)
		}
	}
	claim(a, "one", true, false, "")
	claim(a, "one", true, false, "")
	claim(b, "one", false, false, "one-file")
	claim(b, "two", true, false, "")
	// a is silent: as long as its process lives, only time tells.
	b.ttl = time.Nanosecond
	claim(b, "one", true, true, "")
	if a.lost(t.Context(), "one") {
		t.Error("lost, and it was not late")
	}
	a.ttl = time.Nanosecond
	if !a.lost(t.Context(), "one") {
		t.Error("not lost")
	}
	// A lost claim is not given back by who lost it.
	a.close()
	if _, err := os.Stat(filepath.Join(dir, "leases", "one.1")); err != nil {
		t.Error(err)
	}
	b.ttl = time.Hour
	c := testSession(t, st, time.Hour)
	claim(c, "one", false, false, "one-file")
	b.close()
	claim(c, "one", true, false, "")
	c.close()
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left: %q", slices.Collect(maps.Keys(got)))
	}
}

// TestLeaseLostAndTidied: a session that was stopped until its work was taken
// over and done must notice that, too.
func TestLeaseLostAndTidied(t *testing.T) {
	st := quickDir(t.TempDir())
	a, b := testSession(t, st, time.Nanosecond), testSession(t, st, time.Nanosecond)
	a.claim(t.Context(), "one", "x")
	b.claim(t.Context(), "one", "x")
	if held, took, _ := b.claim(t.Context(), "one", "x"); !held || !took {
		t.Fatal("not taken over")
	}
	b.close()
	if !a.lost(t.Context(), "one") {
		t.Error("not lost")
	}
	if held, took, _ := a.claim(t.Context(), "one", "x"); !held || took || a.lost(t.Context(), "one") {
		t.Error("not held again")
	}
	a.close()
}

// TestDeadSession: what a killed process has claimed is free at once, and is
// tidied up by the next session.
func TestDeadSession(t *testing.T) {
	dir := t.TempDir()
	st := quickDir(dir)
	a, b := testSession(t, st, time.Hour), testSession(t, st, time.Hour)
	a.claim(t.Context(), "one", "x")
	a.claim(t.Context(), "two", "x")
	foreign(t, dir, a, deadOwner(t))
	if held, took, _ := b.claim(t.Context(), "one", "x"); !held || !took {
		t.Error("not taken over")
	}
	b.close()
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left: %q", slices.Collect(maps.Keys(got)))
	}
}

func TestUnwritableLeases(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "leases"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := newSession(t.Context(), quickDir(dir), nil).(noLeases); !ok {
		t.Error("leases where none can be made")
	}
}

// TestLiveFills is what decides what may be deleted.
func TestLiveFills(t *testing.T) {
	for name, tc := range map[string]struct {
		owner owner
		age   time.Duration
		live  bool
	}{
		"this process":            {self(), 0, true},
		"it, silent":              {self(), 48 * time.Hour, true},
		"another machine":         {owner{"other", 1, "2"}, 0, true},
		"it, silent for long":     {owner{"other", 1, "2"}, 2 * longSilence, false},
		"it, of the future":       {owner{"other", 1, "2"}, -2 * longSilence, true},
		"an unknown machine":      {owner{}, 0, true},
		"a process that is gone":  {deadOwner(t), 0, false},
		"its number, given again": {owner{self().Machine, self().PID, "7"}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := quickDir(dir)
			s := testSession(t, st, time.Hour)
			s.claim(t.Context(), "one", "x")
			foreign(t, dir, s, tc.owner)
			at := time.Now().Add(-tc.age)
			s.beat(t.Context())
			for _, suffix := range []string{sessionSuffix, beatSuffix} {
				if err := os.Chtimes(filepath.Join(dir, "leases", s.nonce+suffix), at, at); err != nil {
					t.Fatal(err)
				}
			}
			got, err := liveFills(t.Context(), st)
			if err != nil || got.any != tc.live || got.shards["one"] != tc.live || got.encoders["encoders/x"] != tc.live {
				t.Errorf("%+v, %v", got, err)
			}
			s.close()
		})
	}
	if got, err := liveFills(t.Context(), Memory()); err != nil || got.any {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
}

// TestBadLeases: what is no lease, or one cut short, keeps things alive or
// says nothing; it never fails.
func TestBadLeases(t *testing.T) {
	st := quickDir(t.TempDir())
	for name, content := range map[string]string{
		"one.0": "", "two.x": "a\nb\n", "three": "", "four.-1": "", "five.999999999999999999999": "", "six.0": "n\nf\n", "seven.0": "a\nb\nc\n",
		"s.json": "{", "t.json": `{"owner": 7}` + "\n", "u.json": "",
	} {
		if err := store.Put(t.Context(), st, leasesDir+name, []byte(content), false); err != nil {
			t.Fatal(err)
		}
	}
	got, err := liveFills(t.Context(), st)
	if err != nil || !got.any || len(got.shards) != 2 || !got.shards["one"] || !got.shards["seven"] {
		t.Errorf("%+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := liveFills(ctx, st); err == nil {
		t.Error("no error of a cancelled context")
	}
}
