package cachesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
)

// hookStore runs a function before each of the first publications of names
// with a prefix.
type hookStore struct {
	store.Store
	prefix string
	before []func()
}

func (h *hookStore) Create(ctx context.Context) (store.Writer, error) {
	w, err := h.Store.Create(ctx)
	return hookWriter{w, h}, err
}

type hookWriter struct {
	store.Writer
	h *hookStore
}

func (w hookWriter) Publish(ctx context.Context, name string, replace bool) error {
	if strings.HasPrefix(name, w.h.prefix) && len(w.h.before) > 0 {
		fn := w.h.before[0]
		w.h.before = w.h.before[1:]
		fn()
	}
	return w.Writer.Publish(ctx, name, replace)
}

// TestTwoFillsAtOnce lets other fills, which started from the same commit,
// come first at the last moment, several times over: with the same rows,
// with overlapping objects, with other encoders.
func TestTwoFillsAtOnce(t *testing.T) {
	other := setup{
		splits: map[string][]encode.Sample{"val": groups("z", 9, 9)},
		uses:   []encode.Use{{Name: "another"}},
	}
	mine := setup{splits: map[string][]encode.Sample{"train": groups("a", 30, 30), "val": pairs("a", 10)}, uncached: []string{"raw"}, uses: []encode.Use{{Name: "e"}, {Name: "raw"}}}
	overlap := func(prefix string, n int) setup {
		return setup{splits: map[string][]encode.Sample{"train": append(groups(prefix, 10, 10), groups("a", n, n)...)}, uncached: []string{"raw"}, uses: []encode.Use{{Name: "e"}, {Name: "raw"}}}
	}
	for name, first := range map[string][]setup{
		"another encoder":    {other},
		"the same rows":      {mine},
		"overlap":            {overlap("b", 15)},
		"overlap twice":      {overlap("b", 15), overlap("c", 22)},
		"other then overlap": {other, overlap("b", 15), other},
		"overlap then other": {overlap("b", 15), other},
		"same shards":        {overlap("b", 15), overlap("c", 3), mine},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			base := setup{splits: map[string][]encode.Sample{"base": groups("base", 11, 11)}}
			mustRun(t, base, quickDir(dir))
			h := &hookStore{Store: quickDir(dir), prefix: manifestsDir}
			for i, s := range first {
				h.before = append(h.before, func() {
					// What starts only now would see the others' commits.
					c, err := Open(t.Context(), quickDir(dir), nil)
					if err != nil {
						t.Fatal(err)
					}
					if c.manifest, err = manifestAt(t, dir, 1); err != nil {
						t.Fatal(err)
					}
					f, err := s.stages(t.Context(), c)
					if err != nil {
						t.Fatalf("fill %d: %v", i, err)
					}
					defer f.Abort()
					if _, err := f.Commit(t.Context()); err != nil {
						t.Fatalf("fill %d: %v", i, err)
					}
				})
			}
			s := mine
			s.mem = checked(t)
			c, _, err := s.run(t.Context(), h)
			if err != nil {
				t.Fatal(err)
			}
			if len(h.before) > 0 {
				t.Errorf("%d fills did not come in between", len(h.before))
			}
			for _, s := range append(first, mine, base) {
				checkContent(t, c, s)
			}
			again, stats := mustRun(t, mine, quickDir(dir))
			if stats.Encoders["e"].Encoded != 0 || again.Manifest().Generation != c.Manifest().Generation {
				t.Errorf("another fill: %+v, generation %d after %d", stats.Encoders["e"], again.Manifest().Generation, c.Manifest().Generation)
			}
		})
	}
}

func manifestAt(t *testing.T, dir string, generation int64) (*Manifest, error) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, manifestName(generation)))
	if err != nil {
		return nil, err
	}
	return ParseManifest(b)
}

// TestManyFillsAtOnce is the same without a script.
func TestManyFillsAtOnce(t *testing.T) {
	for name, fsys := range map[string]store.FS{"hard links": store.OS{}, "none": noLinks{}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var wg sync.WaitGroup
			all := make([]setup, 6)
			for i := range all {
				all[i] = setup{splits: map[string][]encode.Sample{fmt.Sprintf("split%d", i): append(groups("shared", 10+i, 10+i), groups(fmt.Sprint("own", i), 10, 10)...)}}
				wg.Go(func() {
					if _, _, err := all[i].run(t.Context(), store.NewDir(dir, fsys)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			c, err := Open(t.Context(), quickDir(dir), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range all {
				checkContent(t, c, s)
			}
		})
	}
}

// noLinks is a filesystem without hard links.
type noLinks struct{ store.OS }

func (noLinks) Link(_, to string) error {
	return &os.LinkError{Op: "link", New: to, Err: syscall.EOPNOTSUPP}
}

// TestUnfinishedClaim is what a process leaves that was killed in the one
// moment between claiming a generation and naming its manifest, where there
// are no hard links: the commit may still come, so it is not passed over.
func TestUnfinishedClaim(t *testing.T) {
	dir := t.TempDir()
	st := store.NewDir(dir, noLinks{})
	s := setup{splits: map[string][]encode.Sample{"train": groups("a", 5, 5)}}
	mustRun(t, s, st)
	claim := filepath.Join(dir, manifestName(2)+store.ClaimSuffix)
	if err := os.WriteFile(claim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*claimPoll)
	defer cancel()
	s.splits["val"] = groups("b", 5, 5)
	_, _, err := s.run(ctx, st)
	wantErr(t, err, context.DeadlineExceeded)
	if err := os.Remove(claim); err != nil {
		t.Fatal(err)
	}
	c, _ := mustRun(t, s, st)
	checkContent(t, c, s)
}

// TestEndedEarly ends fills at many moments: by an encoder's error and by a
// cancelled context. Nothing counts; the next fill takes up every batch that
// was encoded, and ends with the same bytes.
func TestEndedEarly(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	mustRun(t, setup{splits: map[string][]encode.Sample{"train": groups("a", 40, 40)}}, quickDir(whole))
	want := files(t, whole)
	boom := errors.New("boom")
	for n := int64(1); n <= 40; n += 3 {
		for _, how := range []string{"error", "cancel"} {
			t.Run(fmt.Sprintf("%s at %d", how, n), func(t *testing.T) {
				dir := t.TempDir()
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				var encoded, kept atomic.Int64
				s := setup{splits: map[string][]encode.Sample{"train": groups("a", 40, 40)}, mem: checked(t), workers: 1}
				s.models = map[string]hashModel{"e": {dim: 4, seed: "e", encoded: &encoded, fail: func(now int64) error {
					if now < n {
						kept.Store(now)
						return nil
					}
					if how == "cancel" {
						cancel(boom)
						return ctx.Err()
					}
					return boom
				}}}
				_, _, err := s.run(ctx, quickDir(dir))
				wantErr(t, err, boom)
				for name := range files(t, dir) {
					if !strings.HasPrefix(name, "encoders/") {
						t.Errorf("%s is left", name)
					}
				}
				encoded.Store(0)
				s.models["e"] = hashModel{dim: 4, seed: "e", encoded: &encoded}
				_, stats := mustRun(t, s, quickDir(dir))
				sameFiles(t, "after the second try", files(t, dir), want)
				if got := encoded.Load(); got != 40-kept.Load() {
					t.Errorf("encoded %d after %d", got, kept.Load())
				}
				if got := stats.Encoders["e"]; got.Resumed != kept.Load() || got.Resumed+got.Encoded != 40 {
					t.Errorf("%+v after %d", got, kept.Load())
				}
			})
		}
	}
}

// TestOrphanShards are files that no manifest names: they count only if they
// are whole and right.
func TestOrphanShards(t *testing.T) {
	whole := t.TempDir()
	s := setup{splits: map[string][]encode.Sample{"train": groups("a", 8, 8)}}
	mustRun(t, s, quickDir(whole))
	want := files(t, whole)
	var shard string
	for name := range want {
		if strings.HasPrefix(name, "encoders/") && strings.HasSuffix(name, ".arrow") {
			shard = name
		}
	}
	mustRun(t, setup{splits: map[string][]encode.Sample{"train": groups("b", 8, 8)}}, quickDir(whole))
	for name, b := range files(t, whole) {
		if strings.HasPrefix(name, "encoders/") && name[len(name)-len(".arrow"):] == ".arrow" && name != shard {
			want["other"] = b
		}
	}
	other := want["other"]
	delete(want, "other")
	sums := func(content string) string {
		var b bytes.Buffer
		w := sumWriter{w: &b}
		_, _ = w.Write([]byte(content))
		return string(w.finish())
	}
	flipped := []byte(want[shard])
	flipped[len(flipped)/2] ^= 1
	for name, tc := range map[string]struct {
		file, sum string
		adopted   bool
	}{
		"whole":            {want[shard], want[shard+sumSuffix], true},
		"flipped":          {string(flipped), want[shard+sumSuffix], false},
		"cut":              {want[shard][:100], want[shard+sumSuffix], false},
		"cut with its sum": {want[shard][:100], sums(want[shard][:100]), false},
		"empty":            {"", "", false},
		"no sum":           {want[shard], "-", false},
		"long sum":         {want[shard], want[shard+sumSuffix] + "xxxx", false},
		"other objects":    {other, sums(other), false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, filepath.FromSlash(shard))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
				t.Fatal(err)
			}
			if tc.sum != "-" {
				if err := os.WriteFile(path+sumSuffix, []byte(tc.sum), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := s
			s.mem = checked(t)
			_, stats := mustRun(t, s, quickDir(dir))
			if adopted := stats.Encoders["e"].Resumed == 8; adopted != tc.adopted {
				t.Errorf("adopted: %v", adopted)
			}
			sameFiles(t, "after the fill", files(t, dir), want)
		})
	}
}
