package pipeline_test

import (
	"runtime"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
)

// TestBytesIgnoreWorkers: the files are the same for any number of workers
// and of threads.
func TestBytesIgnoreWorkers(t *testing.T) {
	var want map[string]string
	for _, c := range []struct{ workers, threads int }{{1, 1}, {1, 2}, {2, 2}, {8, 1}, {8, 4}, {0, 3}} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.threads))
			dir := t.TempDir()
			cfg := config(t, dir)
			cfg.Encoders = pipeline.Encoders{"one": newModel("a"), "two": newModel("b")}
			cfg.Cache.NumWorkers = c.workers
			fill(t, cfg)
			cfg.Splits["train"] = cfg.Splits["val"] // a second fill goes on top
			fill(t, cfg)
			got := snapshot(t, dir, cached...)
			if want == nil {
				want = got
			}
			sameFiles(t, "another number of workers", got, want)
		}()
	}
	if len(want) < 10 {
		t.Errorf("only %d files", len(want))
	}
}

// TestKilled: a fill that is killed leaves nothing that counts, whatever the
// moment, and the next one gives the bytes of a fill that nothing disturbed.
func TestKilled(t *testing.T) {
	calm := job{Dir: t.TempDir(), Salt: "a", Workers: 1}
	calm.start(t)()
	want := snapshot(t, calm.Dir, cached...)
	for _, j := range []job{
		{KillBatch: 1, Workers: 1},
		{KillBatch: 4, Workers: 1}, // the last of a shard
		{KillBatch: 5, Workers: 2},
		{KillBatch: 11, Workers: 2},
		{KillBatch: 20, Workers: 8}, // the very last
		{KillIdentity: 2, Workers: 1},
		{KillIdentity: 3, Workers: 1}, // committed, not yet noted
	} {
		j.Dir, j.Salt = t.TempDir(), "a"
		if j.start(t)() != nil {
			t.Fatalf("%+v was not killed", j)
		}
		committed := j.KillIdentity == 3
		c, err := cachesink.Open(t.Context(), cachesink.Dir(j.Dir), nil)
		if err != nil {
			t.Fatal(err)
		}
		if m := c.Manifest(); (m.Generation > 0) != committed || !committed && len(m.Splits)+len(m.Encoders) > 0 {
			t.Errorf("%+v left %+v", j, m)
		}
		again := j
		again.KillBatch, again.KillIdentity = 0, 0
		r := again.start(t)()
		if shards := (j.KillBatch - 1) / 4; r.Encoded > 160-32*max(shards-int64(j.Workers), 0) || committed != (r.Encoded == 0) {
			t.Errorf("%+v: started again, it encodes %d of 160", j, r.Encoded)
		}
		sameFiles(t, "after a kill", snapshot(t, j.Dir, cached...), want)
		fresh := calm
		fresh.Dir = ""
		sameLines(t, "after a kill", everything(t, seal(again.config(t))), everything(t, fresh.config(t)))
	}
}

// TestEqualObjectsOnce: equal inputs are encoded once, across rows, sides
// and splits, and by what the encoder reads, not by the object.
func TestEqualObjectsOnce(t *testing.T) {
	cfg := config(t, "")
	text, topic := newModel("t"), newModel("c")
	cfg.Encoders = pipeline.Encoders{"text": text, "topic": encode.Reading(topic, encode.Reads{Field: "topic"})}
	cfg.Sample = func(r row) pipeline.Sample {
		a := encode.Text("same").With("topic", encode.TextValue(r.C))
		return pipeline.Pair(a, encode.Text(r.Q).With("topic", encode.TextValue(r.C)))
	}
	r := fill(t, cfg)
	if text.objects.Load() != 81 || topic.objects.Load() != int64(len(topics)) {
		t.Errorf("the encoders saw %d and %d objects", text.objects.Load(), topic.objects.Load())
	}
	if r.Encoded != 88 || r.Encoders["topic"].Encoded != 7 {
		t.Errorf("%+v", r)
	}
}
