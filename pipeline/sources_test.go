package pipeline_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

// TestCheckSources: an edit of the same size with the same times, which only
// the bytes tell, is caught where they are asked for.
func TestCheckSources(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("there are no hints on this system")
	}
	t.Parallel()
	dir, hints := t.TempDir(), t.TempDir()
	file := jsonl(t, filepath.Join(dir, "train.jsonl"), rows(20, ""))
	edited := rows(20, "")
	edited[7].Q = strings.Replace(edited[7].Q, "case 7", "case 8", 1)
	info := func() os.FileInfo {
		i, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	before := info()
	cfg := config(t, t.TempDir())
	cfg.Splits = pipeline.Splits[row]{"train": source.JSONL[row](file).With(source.FileOptions{HintDir: hints})}
	fill(t, cfg)
	old := plan(t, cfg).Splits["train"].Facts["source"]

	// The edit is written over the file itself: its inode stays, and with the
	// times set back only the time of change can tell, which a filesystem need
	// not have. What is remembered of the file is made to say that nothing can.
	jsonl(t, file, edited)
	if err := os.Chtimes(file, before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
	if now := info(); now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime()) || !os.SameFile(now, before) {
		t.Fatal("the edit shows")
	}
	time.Sleep(2200 * time.Millisecond) // longer than a clock's grain
	edit := plan(t, cfg).Splits["train"].Facts["source"]
	if edit == old {
		t.Error("an edit that shows in the time of change goes unnoticed")
	}
	conceal := func() {
		found, err := filepath.Glob(filepath.Join(hints, "*.json"))
		if err != nil || len(found) != 1 {
			t.Fatalf("hints %v, %v", found, err)
		}
		text := string(read(t, found[0]))
		at := strings.Index(text, `"digest":"`) + len(`"digest":"`)
		write(t, found[0], text[:at]+digestOf(t, rows(20, ""))+text[at+64:])
	}
	conceal()
	if r := fill(t, seal(cfg)); r.Encoded != 0 {
		t.Errorf("%d objects were encoded for an edit that nothing shows", r.Encoded)
	}
	cfg.CheckSources = true
	got := plan(t, cfg).Splits["train"]
	if want := "source: " + old + " -> " + edit; got.Stored || len(got.Differs) != 1 || got.Differs[0] != want {
		t.Errorf("with the sources checked, the plan is %+v, want %s", got, want)
	}
	conceal()
	if r := fill(t, cfg); r.Encoded != 1 {
		t.Errorf("%d objects were encoded for one edit", r.Encoded)
	}
	fill(t, seal(cfg))
	fresh := cfg
	fresh.Cache = &pipeline.CacheConfig{}
	sameLines(t, "with the sources checked", everything(t, cfg), everything(t, fresh))
}

// digestOf is the digest of a file of rows.
func digestOf(t *testing.T, rs []row) string {
	d := sha256.Sum256(read(t, jsonl(t, filepath.Join(t.TempDir(), "rows.jsonl"), rs)))
	return hex.EncodeToString(d[:])
}

// roomy is a storage that says how much is free.
type roomy struct {
	cachesink.Storage
	free *int64
}

func (r roomy) Free(context.Context) int64 { return *r.free }

// TestNoRoom: a fill that cannot fit opens no encoder and writes nothing.
func TestNoRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	cfg := config(t, dir)
	room := int64(1000)
	try := func(cfg pipeline.Config[row]) error {
		p := open(t, cfg)
		pipeline.SetStorage(p, roomy{cachesink.Dir(dir), &room})
		_, err := p.Fill(t.Context())
		return err
	}
	needs := func(room int64) *pipeline.Plan {
		p := open(t, sealEncoders(cfg))
		pipeline.SetStorage(p, roomy{cachesink.Dir(dir), &room})
		plan, err := p.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	var space *cachesink.SpaceError
	err := try(sealEncoders(cfg))
	if !errors.Is(err, cachesink.ErrNoSpace) || !errors.As(err, &space) || space.Free != room {
		t.Fatalf("got %v", err)
	}
	got := needs(room)
	if got.Needs != space.Need || got.Free != room || got.Needs <= got.BytesAfter {
		t.Errorf("the plan says %+v, the fill %+v", got, space)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
	room = space.Need - 1
	if err := try(sealEncoders(cfg)); !errors.Is(err, cachesink.ErrNoSpace) {
		t.Errorf("with a byte too little: %v", err)
	}
	room = space.Need
	if err := try(cfg); err != nil {
		t.Error(err)
	}
	// What is stored needs no room, one row more needs little.
	room = 0
	if err := try(seal(cfg)); err != nil {
		t.Error(err)
	}
	cfg.Splits["val"] = source.Slice(rows(21, "v"))
	if err := try(sealEncoders(cfg)); !errors.Is(err, cachesink.ErrNoSpace) {
		t.Errorf("one row more: %v", err)
	}
	if more := needs(0).Needs; more >= space.Need/2 {
		t.Errorf("one row more needs %d bytes, all of them %d", more, space.Need)
	}
	cfg.IgnoreSpace = true
	if err := try(cfg); err != nil {
		t.Errorf("whoever ignores the room gets %v", err)
	}
}

// TestNoRoomForManyRows: whatever a dataset is stored in, a fill that cannot
// fit is refused before it encodes; one that is known to fit is not counted.
func TestNoRoomForManyRows(t *testing.T) {
	const n = 3000
	var small, csv strings.Builder
	csv.WriteString("q,a,c,n,s\n")
	for i := range n {
		fmt.Fprintf(&small, "{\"q\":\"%x\"}\n", i)
		fmt.Fprintf(&csv, "%x,,,0,0\n", i)
	}
	dir := t.TempDir()
	text := write(t, filepath.Join(dir, "small.jsonl"), small.String())
	for name, src := range map[string]source.Source[row]{
		"small rows": source.JSONL[row](text),
		"csv":        source.CSV[row](write(t, filepath.Join(dir, "small.csv"), csv.String())),
		"gzip":       source.JSONL[row](write(t, filepath.Join(dir, "a.gz"), string(gzipped([]byte(small.String()))))),
		"renamed":    source.JSONL[row](write(t, filepath.Join(dir, "b.jsonl"), string(gzipped([]byte(small.String()))))),
		"zstd":       source.JSONL[row](write(t, filepath.Join(dir, "a.zst"), string(zstded([]byte(small.String()))))),
		"no file":    source.Concat[row](source.JSONL[row](text), source.Slice[row](nil)),
	} {
		cfg := config(t, filepath.Join(t.TempDir(), "cache"))
		cfg.Cache.ShardObjects = 0
		counted := &passes{Source: src}
		cfg.Splits = pipeline.Splits[row]{"train": counted}
		cfg.Sample = func(r row) pipeline.Sample { return pipeline.Group(encode.Text(r.Q), "c") }
		m := newModel("a")
		try := func(cfg pipeline.Config[row], room int64) error {
			p := open(t, cfg)
			pipeline.SetStorage(p, roomy{cachesink.Dir(cfg.Cache.SaveDir), &room})
			_, err := p.Fill(t.Context())
			return err
		}
		m.dim = 1 << 20
		cfg.Encoders = pipeline.Encoders{"enc": m}
		var space *cachesink.SpaceError
		if err := try(sealEncoders(cfg), 9<<30); !errors.As(err, &space) || space.Need < n*4<<20 {
			t.Errorf("%s: got %v", name, err)
		}
		// The rows of small files need little room, which lines tell.
		m.dim, counted.n = 6, 0
		want := 1
		if name == "no file" {
			want = 2
		}
		if err := try(cfg, 1<<30); err != nil || counted.n != want {
			t.Errorf("%s: it was read %d times, want %d: %v", name, counted.n, want, err)
		}
	}
}

// TestPlanShowsWhyASplitIsRead names the facts that have changed.
func TestPlanShowsWhyASplitIsRead(t *testing.T) {
	cfg := config(t, t.TempDir())
	if d := plan(t, cfg).Splits["val"].Differs; d != nil {
		t.Errorf("an empty cache differs in %q", d)
	}
	fill(t, cfg)
	for want, change := range map[string]func(c *pipeline.Config[row]){
		"source: ":                     func(c *pipeline.Config[row]) { c.Splits["val"] = source.Slice(rows(4, "v")) },
		"samples: 1 -> 2":              func(c *pipeline.Config[row]) { c.Version = "2" },
		"limit: 0 -> 3":                func(c *pipeline.Config[row]) { c.Limit = 3 },
		"encoder.enc: ":                func(c *pipeline.Config[row]) { c.Encoders = pipeline.Encoders{"enc": newModel("b")} },
		"keep.n: (none) -> float64":    func(c *pipeline.Config[row]) { c.KeepTypes = map[string]string{"n": "float64"} },
		"bad_rows: false -> true":      func(c *pipeline.Config[row]) { c.OnError = source.Skip },
		"encoder.enc.dtype: (none) ->": func(c *pipeline.Config[row]) { c.Cache.DType = cachesink.Int8 },
		"encoder.enc.cached: true ->":  func(c *pipeline.Config[row]) { c.Cache.CacheType = cachesink.None },
		"nothing says which version":   func(c *pipeline.Config[row]) { c.Version = "" },
	} {
		other, cache := cfg, *cfg.Cache
		other.Cache = &cache
		other.Splits = pipeline.Splits[row]{"train": cfg.Splits["train"], "val": cfg.Splits["val"]}
		change(&other)
		got := plan(t, sealEncoders(other)).Splits["val"]
		if len(got.Differs) != 1 || !strings.HasPrefix(got.Differs[0], want) || got.Facts["split"] != "val" {
			t.Errorf("differs in %q, want %q; the facts are %v", got.Differs, want, got.Facts)
		}
	}
}

// TestLeastJSON: no row with a sample is smaller.
func TestLeastJSON(t *testing.T) {
	for dataset, row := range map[string]string{
		"group: {object: text, label: kind}":                `{"text":1,"kind":1}`,
		"group: {object: text, label: text}, keep: [other]": `{"text":1}`,
		"pair: {a: q, b: q}":                                `{"q":1}`,
		"pair: {a: q, b: a, score: s}":                      `{"q":1,"a":1,"s":1}`,
	} {
		cfg, err := pipeline.ParseConfig("c.yaml", []byte("version: 1\ndataset: {splits: {train: {jsonl: t.jsonl}}, "+dataset+"}\nencoders: {enc: {type: static}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		if n := pipeline.LeastJSON(cfg); n != int64(len(row)) {
			t.Errorf("%s: %d bytes, want those of %s", dataset, n, row)
		}
	}
}

// TestCountsFirst: a fill counts first where nothing bounds a dataset, or what
// bounds it says that it could need more room than there is.
func TestCountsFirst(t *testing.T) {
	for _, c := range []struct {
		name        string
		free        int64
		rows, lines int64 // bounds, without and with counting; -1 for none
		passes      int
	}{
		{"unknown", 1 << 40, -1, -1, 2},
		{"small", 1 << 40, 1 << 20, -1, 1},
		{"large", 1 << 40, 1 << 40, 1 << 40, 2},
		{"large, with few lines", 1 << 40, 1 << 40, 100, 1},
		{"compressed, with few lines", 1 << 40, -1, 100, 1},
		{"small, with little room", 1 << 22, 1 << 20, -1, 2},
		{"small, with enough", 1 << 22, 100, -1, 1},
		{"unknown, as the room is", -1, -1, -1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			cfg := config(t, dir)
			src := &passes{Source: cfg.Splits["train"], size: func(count bool) (rows, bytes int64, ok bool) {
				n := c.rows
				if count {
					n = c.lines
				}
				return n, n * 10, n >= 0
			}}
			cfg.Splits = pipeline.Splits[row]{"train": src}
			p := open(t, cfg)
			pipeline.SetStorage(p, roomy{cachesink.Dir(dir), &c.free})
			if _, err := p.Fill(t.Context()); err != nil || src.n != c.passes {
				t.Errorf("%d passes, want %d; %v", src.n, c.passes, err)
			}
		})
	}
}

// passes counts the passes over a source, and may say what bounds it.
type passes struct {
	source.Source[row]
	size func(count bool) (rows, bytes int64, ok bool)
	n    int
}

func (p *passes) Size(ctx context.Context, count bool) (rows, bytes int64, ok bool) {
	if p.size == nil {
		return source.Size(ctx, p.Source, count)
	}
	return p.size(count)
}

func (p *passes) Rows(ctx context.Context) iter.Seq2[source.Row[row], error] {
	p.n++
	return p.Source.Rows(ctx)
}
