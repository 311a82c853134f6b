package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
)

// roomy is a storage that says how much is free.
type roomy struct {
	Storage
	free int64
}

func (r roomy) Free(context.Context) int64 { return r.free }

// spaceFills are fills of many shapes.
func spaceFills() map[string]setup {
	long := groups("a text of some length, to have keys and inputs of some size", 900, 700)
	for i := range long {
		long[i].Keep = []encode.KeepColumn{{Name: "note", Value: fmt.Sprint("kept ", i)}, {Name: "n", Value: int64(i)}}
	}
	return map[string]setup{
		"small":   smallFill(),
		"shards":  {splits: map[string][]encode.Sample{"train": groups("a", 500, 400), "val": pairs("b", 90)}, shard: 64},
		"kept":    {splits: map[string][]encode.Sample{"train": long}, shard: 200, models: map[string]hashModel{"e": {dim: 96, seed: "s"}}},
		"float16": {splits: map[string][]encode.Sample{"train": long}, shard: 300, dtypes: map[string]DType{"e": Float16}, models: map[string]hashModel{"e": {dim: 96, seed: "s"}}},
		"wide":    {splits: map[string][]encode.Sample{"train": long}, shard: 900, dtypes: map[string]DType{"e": Int8}, models: map[string]hashModel{"e": {dim: 500, seed: "s"}}},
		"inputs":  {splits: map[string][]encode.Sample{"train": groups(strings.Repeat("long ", 2000), 300, 300)}, shard: 120},
		"int8":    {splits: map[string][]encode.Sample{"train": long}, dtypes: map[string]DType{"e": Int8}, shard: 200, recRows: 7},
		"two": {
			splits: map[string][]encode.Sample{"train": pairs("p", 300)},
			uses:   []encode.Use{{Name: "e"}, {Name: "raw"}, {Name: "f"}}, uncached: []string{"raw"}, shard: 100,
		},
	}
}

// TestSizeBoundsTheFill: a dry run's size is not below what the fill then
// writes, nor what there is at any time while it does, and not far above. The
// bound that the rows alone give is not below it.
func TestSizeBoundsTheFill(t *testing.T) {
	for name, s := range spaceFills() {
		dir := t.TempDir()
		st := quickDir(dir)
		c, err := Open(t.Context(), st, checked(t))
		if err != nil {
			t.Fatal(err)
		}
		dry := s
		dry.dry = true
		f, err := dry.stages(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size(t.Context())
		if err := errors.Join(err, f.Abort()); err != nil {
			t.Fatal(err)
		}
		x := Extent{Kept: 2}
		for _, samples := range s.splits {
			x.Splits++
			for i := range samples {
				x.Rows++
				x.Texts += int64(len(samples[i].A.Text()) + len(samples[i].B.Text()) + len(fmt.Sprint(samples[i].Label, samples[i].Keep)))
			}
		}
		if bound := c.Bound(f.opts, x); bound < size.Need {
			t.Errorf("%s: the bound of %+v is %d bytes, %d are needed", name, x, bound, size.Need)
		}
		var most atomic.Int64
		watched := s
		watched.workers, watched.models = 1, map[string]hashModel{}
		for _, u := range s.uses {
			watched.models[u.Name] = hashModel{dim: 4, seed: u.Name}
		}
		maps.Copy(watched.models, s.models)
		if len(watched.models) == 0 {
			watched.models["e"] = hashModel{dim: 4, seed: "e"}
		}
		for name, m := range watched.models {
			m.starts = func() { most.Store(max(most.Load(), takes(t, dir))) }
			watched.models[name] = m
		}
		mustRun(t, watched, st)
		if n := most.Load(); n > size.Need || n == 0 {
			t.Errorf("%s: there were %d bytes at a time, %d were planned", name, n, size.Need)
		}
		var wrote int64
		for _, folder := range []string{"encoders/", "splits/", "inputs/"} {
			found, err := st.List(t.Context(), folder)
			if err != nil {
				t.Fatal(err)
			}
			for _, info := range found {
				wrote += info.Size
			}
		}
		if size.Files < wrote || size.Files > wrote*3/2+8000 || size.Need < size.Files {
			t.Errorf("%s: %d bytes were planned, with %d in all, and %d written", name, size.Files, size.Need, wrote)
		}

		// With the room that was planned it runs.
		mustRun(t, s, roomy{quickDir(t.TempDir()), size.Need})
	}
}

// takes returns the bytes of all files below a folder.
func takes(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // it has just gone
		}
		if info, err := e.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return bytes
}

// TestNoSpace: what does not fit is refused before it is encoded.
func TestNoSpace(t *testing.T) {
	for _, c := range []struct {
		name    string
		free    int64
		ignore  bool
		encoded int64 // at most, where it is refused
	}{
		{"nothing is free", 0, false, 0},
		{"not one shard fits", 20_000, false, 0},
		{"the third shard does not fit", 150_000, false, 128},
		{"it says so, and is not believed", 0, true, 400},
		{"nobody knows", -1, false, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			var encoded atomic.Int64
			s := setup{
				splits: map[string][]encode.Sample{"train": groups("a", 400, 400)}, shard: 64, batch: 4,
				models: map[string]hashModel{"e": {dim: 96, seed: "s", encoded: &encoded}}, mem: checked(t), ignoreSpace: c.ignore,
			}
			_, _, err := s.run(t.Context(), roomy{quickDir(dir), c.free})
			if got := encoded.Load(); got > c.encoded || c.encoded == 400 && got < 400 {
				t.Errorf("%d objects were encoded, want %d", got, c.encoded)
			}
			if c.encoded == 400 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var space *SpaceError
			if !errors.Is(err, ErrNoSpace) || !errors.As(err, &space) || space.Free != c.free || space.Need <= c.free {
				t.Fatalf("got %v", err)
			}
			if cache, err := Open(t.Context(), quickDir(dir), nil); err != nil || cache.Manifest().Generation != 0 {
				t.Errorf("the refused fill left %+v, %v", cache, err)
			}
			// What was finished is taken up, and takes no room again.
			before := encoded.Load()
			_, stats := mustRun(t, s, roomy{quickDir(dir), 400_000})
			if got := encoded.Load() - before; got+stats.Encoders["e"].Resumed != 400 {
				t.Errorf("then %d were encoded and %d taken up", got, stats.Encoders["e"].Resumed)
			}
		})
	}
}

// TestSizeAfterAKill does not count what the killed fill has finished.
func TestSizeAfterAKill(t *testing.T) {
	s := setup{splits: map[string][]encode.Sample{"train": groups("a", 400, 400)}, shard: 64, models: map[string]hashModel{"e": {dim: 96, seed: "s"}}}
	size := func(st Storage) int64 {
		c, err := Open(t.Context(), st, nil)
		if err != nil {
			t.Fatal(err)
		}
		dry := s
		dry.dry = true
		f, err := dry.stages(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Abort()
		n, err := f.Size(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n.Files
	}
	st := quickDir(t.TempDir())
	whole := size(st)
	mustRun(t, s, st)
	var found []store.Info
	for _, folder := range []string{"encoders/", "manifests/"} {
		some, err := st.List(t.Context(), folder)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, some...)
	}
	shards := 0
	for _, info := range found {
		if strings.HasPrefix(info.Name, "encoders/") && shards < 6 {
			whole -= info.Size
			shards++ // files: a shard has two
			continue
		}
		if err := st.Remove(t.Context(), info.Name); err != nil {
			t.Fatal(err)
		}
	}
	if got := size(st); got != whole || shards != 6 {
		t.Errorf("%d bytes are to be written, want %d; %d files are left", got, whole, shards)
	}
}
