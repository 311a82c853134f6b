package cachesink

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
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
