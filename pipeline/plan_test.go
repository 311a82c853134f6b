package pipeline_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

func plan(t testing.TB, cfg pipeline.Config[row]) *pipeline.Plan {
	t.Helper()
	p, err := open(t, cfg).Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.Free = 0
	return p
}

// TestPlan tells what the fill then does, opens no encoder, writes nothing
// and says the same each time.
func TestPlan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	cfg := config(t, dir)
	cfg.Splits["val"] = source.Slice(append(rows(20, "v"), rows(3, "")...)) // shares 6 objects with train
	steps := []struct {
		name     string
		change   func()
		toEncode int64
		hits     int64 // of val
		stored   bool  // of train
		covered  bool
	}{
		{"empty", func() {}, 160, 6, false, false},
		{"filled", func() {}, 0, 46, true, true},
		{"one split changed", func() {
			cfg.Splits["val"] = source.Slice(rows(25, "v"))
		}, 10, 40, true, false},
		{"filled again", func() {}, 0, 50, true, true},
		{"another encoder", func() {
			m := newModel("b")
			m.version = 3
			cfg.Encoders["enc"] = m
		}, 170, 0, false, false},
	}
	for _, s := range steps {
		s.change()
		before := snapshot(t, dir, ".")
		got := plan(t, sealEncoders(cfg))
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(plan(t, sealEncoders(cfg)))
		if string(a) != string(b) {
			t.Errorf("%s: the plan is\n%s, then\n%s", s.name, a, b)
		}
		sameFiles(t, s.name, snapshot(t, dir, "."), before)
		val := got.Splits["val"].Encoders["enc"]
		if got.ToEncode != s.toEncode || val.Hits != s.hits || got.Covered != s.covered || got.Splits["train"].Stored != s.stored {
			t.Errorf("%s: %s", s.name, a)
		}
		r := fill(t, cfg)
		if r.Encoded != got.ToEncode {
			t.Errorf("%s: %d were planned, %d encoded", s.name, got.ToEncode, r.Encoded)
		}
		if rows := got.Splits["train"].Rows + got.Splits["val"].Rows; rows != r.Rows {
			t.Errorf("%s: %d rows were planned, %d filled", s.name, rows, r.Rows)
		}
		size := plan(t, cfg).BytesNow
		if got.BytesAfter < size/2 || got.BytesAfter > size*2 {
			t.Errorf("%s: %d bytes were planned, there are %d", s.name, got.BytesAfter, size)
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

// TestPlanShowsWhatDiffers between an encoder and the nearest stored one.
func TestPlanShowsWhatDiffers(t *testing.T) {
	dir := t.TempDir()
	cfg := config(t, dir)
	fill(t, cfg)
	m := newModel("b")
	m.variant = true
	cfg.Encoders = pipeline.Encoders{"enc": m, "other": newModel("a")}
	cfg.Cache.Mapping = pipeline.Mapping{"other": cachesink.None}
	p := plan(t, cfg)
	if got := p.Encoders["enc"].Differs; !slices.Equal(got, []string{"batch_size: (none) -> 8", "salt: a -> b"}) {
		t.Errorf("differs %q", got)
	}
	m.dim, m.salt, m.variant = 7, "a", false
	if got := plan(t, cfg).Encoders["enc"].Differs; !slices.Equal(got, []string{"dim: 6 -> 7"}) {
		t.Errorf("another dimension differs in %q", got)
	}
	if o := p.Encoders["other"]; o.Differs != nil || o.CacheType != cachesink.None || o.Fields["salt"] != "a" {
		t.Errorf("%+v", o)
	}
	if e := p.Encoders["enc"]; e.Asked != cachesink.Auto || e.CacheType != cachesink.CPU || e.Reason == "" {
		t.Errorf("auto is %+v", e)
	}
}

// TestPlanOfBadRows fails as the fill would, or leaves them out and writes no
// quarantine.
func TestPlanOfBadRows(t *testing.T) {
	cfg := config(t, "")
	cfg.Sample = func(r row) pipeline.Sample {
		if r.N == 3 {
			return pipeline.Bad(errors.New("a reason"))
		}
		return pipeline.Group(encode.Text(r.Q), r.C)
	}
	if _, err := open(t, cfg).Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "slice:4: a reason") {
		t.Errorf("got %v", err)
	}
	cfg.OnError, cfg.Quarantine = source.Quarantine, filepath.Join(t.TempDir(), "bad.jsonl")
	if p := plan(t, cfg); p.Splits["train"].Rows != 59 {
		t.Errorf("%+v", p)
	}
	if _, err := os.Stat(cfg.Quarantine); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a quarantine was written: %v", err)
	}
}
