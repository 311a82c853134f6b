package cachesink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/encode"
)

// TestReadersOfRemovedFiles: a cache that was opened before a collection and
// a compaction reads the same rows from where they are now, and says what is
// there no more.
func TestReadersOfRemovedFiles(t *testing.T) {
	dir := t.TempDir()
	_, after := edited(t, dir)
	after.defaults()
	mem := checked(t)
	c, err := Open(t.Context(), quickDir(dir), mem)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	var tables Tables
	defer tables.Release()
	val := &c.Manifest().Splits[slices.IndexFunc(c.Manifest().Splits, func(s Split) bool { return s.Name == "val" && len(s.Encoders) == 1 })]
	before, err := c.Read(t.Context(), val, &tables) // the tables know the old positions
	if err != nil {
		t.Fatal(err)
	}
	defer before.Release()
	now, plan := collect(t, quickDir(dir), nil, GCOptions{Grace: -1, Compact: true, ShardObjects: 8})
	if len(plan.Compact) != 1 || plan.Compact[0].Garbage == 0 || len(plan.Files) == 0 {
		t.Fatalf("%+v", plan)
	}
	checkContent(t, now, after)
	var dropped, kept []*Split
	for i := range c.Manifest().Splits {
		s := &c.Manifest().Splits[i]
		if now.Manifest().Split(s.Name, s.Fingerprint) == nil {
			dropped = append(dropped, s)
		} else {
			kept = append(kept, s)
		}
	}
	for _, s := range dropped {
		_, err := c.Read(t.Context(), s, &tables)
		wantErr(t, err, ErrMissing, "was removed")
		_, err = c.Head(t.Context(), s, 2)
		wantErr(t, err, ErrMissing, "was removed")
	}
	for _, s := range kept {
		checkSplit(t, now, now.Manifest().Split(s.Name, s.Fingerprint), after.splits[s.Name], after)
		r, err := c.Read(t.Context(), s, &tables)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := r.Gather(t.Context(), []int64{0, 1, 2})
		if err != nil {
			t.Fatal(err)
		}
		head, err := now.Head(t.Context(), now.Manifest().Split(s.Name, s.Fingerprint), 3)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range rec.Schema().Fields() {
			at := head.Schema().FieldIndices(f.Name)
			if fmt.Sprint(rec.Column(i)) != fmt.Sprint(head.Column(at[0])) {
				t.Errorf("split %q, column %q: %v and %v", s.Name, f.Name, rec.Column(i), head.Column(at[0]))
			}
		}
		if again, err := c.Head(t.Context(), s, 3); err != nil || !array.RecordEqual(again, head) {
			t.Errorf("split %q: %v, %v", s.Name, again, err)
		} else {
			again.Release()
		}
		rec.Release()
		head.Release()
		r.Release()
		_, err = c.Schema(t.Context(), s.Files[0])
		wantErr(t, err, ErrMissing, "was removed")
	}
	found, total, err := c.Lookup(t.Context(), fmt.Sprintf("%x", idOf(t, "c 1")), LookupOptions{})
	if err != nil || total != 1 || len(found[0].Embedding) != 4 {
		t.Errorf("%v, %d, %v", found, total, err)
	}
	for i := range c.Manifest().Encoders {
		e := &c.Manifest().Encoders[i]
		n := int64(0)
		for rec, err := range c.Objects(t.Context(), e) {
			if err != nil {
				if e.Name != "old" || !errors.Is(err, ErrMissing) {
					t.Error(err)
				}
				continue
			}
			n += rec.NumRows()
			rec.Release()
		}
		if want := now.Manifest().Encoder(e.Folder); want != nil && n != want.Rows() {
			t.Errorf("%d objects", n)
		}
	}
	for found := range c.Verify(t.Context()) {
		if found != nil {
			t.Errorf("%s: %v", found.File, found.Err)
		}
	}
	copied, err := Open(t.Context(), quickDir(other), mem)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Diff(t.Context(), c, copied, DiffOptions{})
	if err != nil || len(d.Encoders) != 2 || d.Encoders[0].OnlyA.Count != 0 || d.Encoders[0].OnlyB.Count == 0 {
		t.Errorf("%+v, %v", d, err)
	}
	// A fill that was started there begins again.
	if _, err := c.Fill(t.Context(), FillOptions{Encoders: []Use{{Name: "e", Fingerprint: c.Manifest().Encoders[0].Fingerprint, Dim: 4, Cached: true}}}); !errors.Is(err, ErrMoved) || errors.Is(err, ErrCorrupt) {
		t.Errorf("error %v", err)
	}
}

func idOf(t *testing.T, text string) [32]byte {
	t.Helper()
	return encode.Identify(inputOf(t, encode.Use{Name: "e"}, encode.GroupSample(encode.Text(text), "x"), 0))
}

// TestGoneIsDamage: what the newest manifest names and is not there is damage.
func TestGoneIsDamage(t *testing.T) {
	dir := t.TempDir()
	c, _ := mustRun(t, smallFill(), quickDir(dir))
	if err := os.Remove(dir + "/" + c.Manifest().Encoders[0].Shards[0].Name); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read(t.Context(), &c.Manifest().Splits[0], &Tables{})
	wantErr(t, err, ErrCorrupt, "is gone")
}

// TestAllAtOnce: fills, replays and collections of one directory, without
// leases that would tell the collections of the fills. A fill may have to
// begin again; nobody is ever served a wrong row.
func TestAllAtOnce(t *testing.T) {
	dir := t.TempDir()
	st := quickDir(dir)
	states := make([]setup, 6)
	for i := range states {
		states[i] = setup{leases: func(Storage, FillOptions) leases { return noLeases{} }, splits: map[string][]encode.Sample{"train": append(groups("a", 12, 12), groups(fmt.Sprint("n", i), 6, 6)...)}}
	}
	mustRun(t, states[0], st)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	loop := func(fn func() error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for ctx.Err() == nil {
				if err := fn(); err != nil && ctx.Err() == nil && !errors.Is(err, ErrMissing) && !errors.Is(err, ErrMoved) && !errors.Is(err, ErrBusy) {
					t.Error(err)
					stop()
				}
			}
		}()
	}
	for i := range 2 {
		loop(func() error {
			c, err := Open(ctx, st, nil)
			if err != nil {
				return err
			}
			p, err := c.Garbage(ctx, GCOptions{Grace: -1, Compact: i == 0, ShardObjects: 8, Keep: 2})
			if err == nil {
				_, err = c.Collect(ctx, p)
			}
			return err
		})
	}
	loop(func() error {
		c, err := Open(ctx, st, nil)
		if err != nil {
			return err
		}
		var tables Tables
		defer tables.Release()
		r, err := c.Read(ctx, &c.Manifest().Splits[0], &tables)
		if err != nil {
			return err
		}
		defer r.Release()
		rec, err := r.Gather(ctx, []int64{0, 11, 17})
		if err != nil {
			return err
		}
		defer rec.Release()
		vecs, _, err := Vectors(rec.Column(rec.Schema().FieldIndices("e")[0]))
		want := make([]float32, 4)
		hashVector(want, "e", inputOf(t, encode.Use{Name: "e"}, encode.GroupSample(encode.Text("a 11"), "x"), 0))
		if err == nil && !slices.Equal(vecs[4:8], want) {
			err = fmt.Errorf("row 11 is %v, not %v", vecs[4:8], want)
		}
		return err
	})
	again := 0
	for round := range 12 {
		for {
			s := states[round%len(states)]
			_, _, err := s.run(t.Context(), st)
			if err == nil {
				break
			}
			if again++; !errors.Is(err, ErrMoved) {
				t.Error(err)
				break
			}
		}
	}
	stop()
	wg.Wait()
	c, _ := collect(t, st, nil, GCOptions{Grace: -1})
	checkContent(t, c, states[11%len(states)])
	t.Logf("generation %d, %d fills began again", c.Manifest().Generation, again)
}
