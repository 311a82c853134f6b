package cachesink

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
)

// lostLeases are those of a fill that another has taken for dead from some
// moment on.
type lostLeases struct{ gone *atomic.Bool }

func (l lostLeases) claim(context.Context, string, string) (held, took bool, other string) {
	return !l.gone.Load(), false, ""
}

func (l lostLeases) lost(context.Context, string) bool { return l.gone.Load() }

func (lostLeases) close() {}

// TestLostShards lets another fill come first while this one stands still: it
// takes what that has published, and encodes no more.
func TestLostShards(t *testing.T) {
	for _, workers := range []int{1, 3} {
		for _, d := range []DType{Float32, Int8} {
			whole := t.TempDir()
			plan := func() setup {
				return setup{
					splits: map[string][]encode.Sample{"train": groups("a", 30, 30)}, workers: workers,
					dtypes: map[string]DType{"e": d}, mem: checked(t),
				}
			}
			other := plan()
			mustRun(t, other, quickDir(whole))
			dir := t.TempDir()
			var gone atomic.Bool
			var encoded atomic.Int64
			s := plan()
			s.leases = func(Storage, FillOptions) leases { return lostLeases{&gone} }
			m := hashModel{dim: 4, seed: "e", encoded: &encoded}
			m.fail = func(n int64) error {
				if n >= 4 && gone.CompareAndSwap(false, true) {
					o := plan()
					o.leases = func(Storage, FillOptions) leases { return noLeases{} }
					_, _, err := o.run(t.Context(), quickDir(dir))
					return err
				}
				return nil
			}
			s.models = map[string]hashModel{"e": m}
			c, stats := mustRun(t, s, quickDir(dir))
			if n, most := encoded.Load(), int64(3+3*workers); n > most {
				t.Errorf("%d workers: encoded %d, want at most %d", workers, n, most)
			}
			if got := stats.Encoders["e"]; got.Encoded != encoded.Load() || got.Resumed != 30-got.Encoded {
				t.Errorf("%d workers: %+v after %d", workers, got, encoded.Load())
			}
			checkContent(t, c, plan())
			sameFiles(t, "after both", files(t, dir), files(t, whole))
		}
	}
}

// TestOtherNames: a fill that started from another commit numbers its shards
// otherwise. What it has published is taken as it is, but only a file that
// can be the shard's.
func TestOtherNames(t *testing.T) {
	whole := t.TempDir()
	c, _ := mustRun(t, oneShard(new(atomic.Int64)), quickDir(whole))
	e := c.Manifest().Encoders[0]
	shard := e.Shards[0]
	named := e.Folder + "/00007-" + shard.ID[:8] + ".arrow"
	for name, adopted := range map[string]bool{
		named: true, e.Folder + "/00007-00000000.arrow": false, "encoders/x/00007-" + shard.ID[:8] + ".arrow": false, "../x": false,
	} {
		dir := t.TempDir()
		for _, suffix := range []string{"", sumSuffix} {
			b := files(t, whole)[shard.Name+suffix]
			if err := store.Put(t.Context(), quickDir(dir), named+suffix, []byte(b), false); err != nil {
				t.Fatal(err)
			}
		}
		var encoded atomic.Int64
		s := oneShard(&encoded)
		s.mem = checked(t)
		asked := 0
		s.leases = func(Storage, FillOptions) leases { return busyLeases{&asked, name} }
		c, _ := mustRun(t, s, quickDir(dir))
		if got := c.Manifest().Encoders[0].Shards[0].Name; adopted != (got == named) || adopted != (encoded.Load() == 0) {
			t.Errorf("%s: adopted %s, encoded %d", name, got, encoded.Load())
		}
		checkContent(t, c, s)
	}
}

// busyLeases are those of a fill that finds another at work, twice.
type busyLeases struct {
	asked *int
	name  string
}

func (l busyLeases) claim(context.Context, string, string) (held, took bool, other string) {
	*l.asked++
	return *l.asked > 2, false, l.name
}

func (busyLeases) lost(context.Context, string) bool { return false }

func (busyLeases) close() {}

// TestTwinEncoders: two names of one encoder have shards of one id, which are
// two pieces of work.
func TestTwinEncoders(t *testing.T) {
	s := setup{
		splits: map[string][]encode.Sample{"train": groups("a", 20, 20)}, uses: []encode.Use{{Name: "one"}, {Name: "two"}},
		models: map[string]hashModel{"one": {dim: 4, seed: "e"}, "two": {dim: 4, seed: "e"}}, mem: checked(t),
	}
	dir := t.TempDir()
	other := testSession(t, quickDir(dir), leaseTTL)
	first := s
	first.uses, first.models = s.uses[:1], map[string]hashModel{"one": s.models["one"]}
	c, _ := mustRun(t, first, quickDir(t.TempDir()))
	for _, shard := range c.Manifest().Encoders[0].Shards {
		p := shardPlan{id: shard.ID, name: shard.Name}
		if held, _, _ := other.claim(t.Context(), p.task(), p.name); !held {
			t.Fatal("not held")
		}
	}
	second := s
	second.uses, second.models = s.uses[1:], map[string]hashModel{"two": s.models["two"]}
	c, _ = mustRun(t, second, quickDir(dir)) // does not wait for other
	checkContent(t, c, second)
	other.close()
	c, _ = mustRun(t, s, quickDir(t.TempDir()))
	checkContent(t, c, s)
}
