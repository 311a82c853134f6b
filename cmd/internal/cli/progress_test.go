package cli

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
)

func filled(rows, encoded int64) pipeline.Progress {
	return pipeline.Progress{Phase: "fill", Fill: &cachesink.FillStats{
		Rows:     rows,
		Encoders: map[string]cachesink.EncoderStats{"e": {Objects: rows, Reused: rows / 4, Encoded: encoded}},
	}}
}

// work is half a minute of it.
func work(m *meter) {
	m.pipeline(filled(0, 0))
	time.Sleep(15 * time.Second)
	m.pipeline(filled(30_000, 7_500))
	time.Sleep(10 * time.Second)
	m.pipeline(pipeline.Progress{Phase: "train", Epochs: 4})
	time.Sleep(4 * time.Second)
	m.pipeline(pipeline.Progress{Phase: "train", Epoch: 1, Epochs: 4, Loss: 0.5})
	time.Sleep(2 * time.Second)
	m.pipeline(pipeline.Progress{Phase: "done"})
}

func TestPlainProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		m := (&app{stderr: &out, progress: progressAuto}).newMeter()
		work(m)
		m.done()
		want := []string{
			"fill: 10 s",
			"fill: 30,000 rows  1,500 rows/s  7,500 of 22,500 encoded  7,500 hits  eta 25 s",
			"train: epoch 1/4  loss 0.5  eta 11 s",
			"train: epoch 1/4  loss 0.5  eta 10 s",
		}
		if got := strings.TrimSpace(out.String()); got != strings.Join(want, "\n") {
			t.Errorf("printed\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
	})
}

func TestJSONProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		a := &app{stderr: &out, progress: progressJSON}
		m := a.newMeter()
		a.logger(m).Warn("look")
		work(m)
		m.pipeline(pipeline.Progress{Phase: "train", Epoch: 2, Epochs: 4, Loss: math.NaN()})
		time.Sleep(3 * time.Second)
		m.done()
		var phases []string
		var last event
		for line := range strings.Lines(out.String()) {
			var e event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			if e.Event == "progress" {
				phases = append(phases, e.Phase)
				last = e
			}
		}
		if len(phases) < 25 || phases[0] != "fill" || last.Epoch != 2 || last.Loss != nil {
			t.Errorf("phases %v, last %+v", phases, last)
		}
	})
}

// Work that ends at once shows nothing, in any form.
func TestNoProgressOfShortWork(t *testing.T) {
	for _, mode := range []string{progressPlain, progressJSON, progressNone, progressBars} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			m := (&app{stderr: &out, progress: mode}).newMeter()
			m.pipeline(filled(1000, 10))
			time.Sleep(900 * time.Millisecond)
			m.done()
			if out.Len() > 0 {
				t.Errorf("%s printed %q", mode, &out)
			}
		})
	}
}

// lockedBuffer is a buffer that is written to by the bars' goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestBars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &lockedBuffer{}
		a := &app{stderr: out, progress: progressBars}
		m := a.newMeter()
		log := slog.New(slog.NewTextHandler(m, nil))
		work(m)
		log.Info("between the bars")
		m.report(event{Phase: "verify", Bytes: 5e8, Total: 1e9})
		time.Sleep(time.Second)
		m.done()
		log.Info("behind the bars")
		got := out.String()
		for _, want := range []string{
			"fill    [", "7,500 of 22,500 encoded  7,500 hits", "train   [", "epoch 1/4  loss 0.5", "verify  [", "500 MB of 1 GB",
			"between the bars", "behind the bars",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in %.3000q", want, got)
			}
		}
		if strings.Contains(got, "\x1b[3") {
			t.Errorf("colours in %.500q", got)
		}
	})
}

// A report must cost next to nothing, even if nobody can take the output.
func TestProgressDoesNotBlock(t *testing.T) {
	r := make(chan struct{})
	m := (&app{stderr: blocked{r}, progress: progressJSON}).newMeter()
	start := time.Now()
	for time.Since(start) < 1500*time.Millisecond {
		before := time.Now()
		m.pipeline(filled(1, 1))
		if d := time.Since(before); d > 400*time.Millisecond {
			t.Fatalf("a report took %v", d)
		}
	}
	close(r)
	m.done()
}

type blocked struct{ until chan struct{} }

func (b blocked) Write(p []byte) (int, error) {
	<-b.until
	return len(p), nil
}
