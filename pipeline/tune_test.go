package pipeline_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
)

// TestTune finds the layout that an encoder is the fastest in: this one takes
// as long for 8 objects as for one, and one of its kind works at a time.
func TestTune(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	cfg := config(t, dir)
	m := newModel("a")
	var mu sync.Mutex
	sizes := map[int]bool{}
	m.onBatch = func(ctx context.Context, batch []encode.Input, _ []float32) error {
		mu.Lock()
		defer mu.Unlock()
		sizes[len(batch)] = true
		time.Sleep(2 * time.Millisecond)
		return ctx.Err()
	}
	cfg.Encoders["enc"] = m
	r, err := open(t, cfg).Tune(t.Context(), pipeline.TuneOptions{
		Objects: 37, Seconds: 0.1, BatchSizes: []int{1, 8, 1}, Workers: []int{2, 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Encoder != "enc" || r.Objects != 37 || !r.BatchInvariant || len(r.Layouts) != 4 {
		t.Errorf("report %+v", r)
	}
	if best := r.Best(); best.BatchSize != 8 {
		t.Errorf("best is %+v of %+v", best, r.Layouts)
	}
	sorted := slices.IsSortedFunc(r.Layouts, func(a, b pipeline.Layout) int {
		return int(b.ObjectsPerSecond - a.ObjectsPerSecond)
	})
	if !sorted || r.Layouts[3].ObjectsPerSecond <= 0 || len(sizes) != 2 || !sizes[1] || !sizes[8] {
		t.Errorf("layouts %+v, sizes %v", r.Layouts, sizes)
	}
	for _, l := range r.Layouts {
		if l.Configured != (l.BatchSize == 8 && l.NumWorkers == 2) {
			t.Errorf("layout %+v is said to be the config's, or not", l)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a cache was made")
	}
}

func TestTuneBest(t *testing.T) {
	r := pipeline.TuneReport{Layouts: []pipeline.Layout{{NumWorkers: 1, ObjectsPerSecond: 100}, {NumWorkers: 2, ObjectsPerSecond: 98, Configured: true}}}
	if r.Best().NumWorkers != 2 {
		t.Error("the config's layout is as good")
	}
	r.Layouts[1].ObjectsPerSecond = 90
	if r.Best().NumWorkers != 1 {
		t.Error("the config's layout is slower")
	}
}

func TestTuneErrors(t *testing.T) {
	boom := errors.New("boom")
	cfg := config(t, "")
	m := newModel("a")
	m.onBatch = func(context.Context, []encode.Input, []float32) error { return boom }
	cfg.Encoders["enc"] = m
	if _, err := open(t, cfg).Tune(t.Context(), pipeline.TuneOptions{Seconds: 0.05}); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	m.onBatch = func(ctx context.Context, _ []encode.Input, _ []float32) error {
		cancel(boom)
		return ctx.Err()
	}
	if _, err := open(t, cfg).Tune(ctx, pipeline.TuneOptions{Seconds: 9}); !errors.Is(err, boom) {
		t.Errorf("error %v after a cancel", err)
	}
	cfg.Encoders["other"] = newModel("b")
	if _, err := open(t, cfg).Tune(t.Context(), pipeline.TuneOptions{}); err == nil {
		t.Error("no error where it is not said which encoder")
	}
}
