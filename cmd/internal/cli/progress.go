package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/permafrost-ml/permafrost/pipeline"
)

// The values of --progress.
const (
	progressAuto  = "auto" // bars on a terminal, else plain
	progressPlain = "plain"
	progressJSON  = "json"
	progressNone  = "none"
	progressBars  = "bars" // what auto becomes on a terminal
)

// How often progress is shown. Nothing is shown of work that ends sooner
// than the first delay.
const (
	firstDelay = time.Second
	plainEvery = 10 * time.Second
	jsonEvery  = time.Second
	barsEvery  = 100 * time.Millisecond
)

// event is how far the work has come: a line of --progress json.
type event struct {
	Event   string  `json:"event"`   // "progress"
	Phase   string  `json:"phase"`   // read, fill, eval, train, verify, diff, encode, export, import, pull
	Seconds float64 `json:"seconds"` // since the phase began
	Rows    int64   `json:"rows,omitempty"`
	// Objects are the distinct objects met so far, Reused and Encoded those
	// of them that are stored.
	Objects int64    `json:"objects,omitempty"`
	Reused  int64    `json:"reused,omitempty"`
	Encoded int64    `json:"encoded,omitempty"`
	Epoch   int      `json:"epoch,omitempty"` // done
	Epochs  int      `json:"epochs,omitempty"`
	Loss    *float64 `json:"loss,omitempty"` // of the last epoch
	Bytes   int64    `json:"bytes,omitempty"`
	Total   int64    `json:"total_bytes,omitempty"`

	reported float64 // when, in seconds since the phase began
}

// done returns how much of how much is done, 0 of 0 where that is unknown.
func (e *event) done() (n, of int64) {
	switch {
	case e.Epochs > 0:
		return int64(e.Epoch), int64(e.Epochs)
	case e.Total > 0:
		return e.Bytes, e.Total
	case e.Phase == "fill":
		return e.Encoded, e.Objects - e.Reused
	}
	return 0, 0
}

// text is the event for people, without the phase.
func (e *event) text() string {
	s := ""
	add := func(format string, args ...any) {
		if s != "" {
			s += "  "
		}
		s += fmt.Sprintf(format, args...)
	}
	if e.Rows > 0 {
		add("%s rows  %s rows/s", count(e.Rows), count(int64(rate(e.Rows, e.Seconds))))
	}
	n, of := e.done()
	switch {
	case e.Epochs > 0:
		add("epoch %d/%d", e.Epoch, e.Epochs)
		if e.Loss != nil {
			add("loss %.4g", *e.Loss)
		}
	case e.Total > 0:
		add("%s of %s  %s/s", size(e.Bytes), size(e.Total), size(int64(rate(e.Bytes, e.Seconds))))
	case e.Objects > 0:
		add("%s of %s encoded  %s %s", count(n), count(of), count(e.Reused), plural(e.Reused, "hit", "hits"))
	}
	if n > 0 && n < of {
		left := e.reported/float64(n)*float64(of-n) - (e.Seconds - e.reported)
		add("eta %s", span(max(left, 0)))
	}
	return s
}

// meter shows how far the work has come. Reports only replace what is known,
// so that showing never slows the work; a goroutine of its own shows it.
// It is also the writer of logs, which must not tear the bars.
type meter struct {
	mode string
	out  io.Writer

	mu       sync.Mutex
	last     event
	reported time.Time
	begun    time.Time // of the phase

	outMu sync.Mutex
	bars  *bars // while they are shown

	stop    chan struct{}
	stopped sync.WaitGroup
}

// newMeter starts a meter, which must be ended by done.
func (a *app) newMeter() *meter {
	m := &meter{mode: a.mode(), out: a.stderr, stop: make(chan struct{})}
	switch m.mode {
	case progressBars:
		m.stopped.Go(m.showBars)
	case progressPlain:
		m.stopped.Go(func() { m.showLines(plainEvery, plainEvery, m.plain) })
	case progressJSON:
		m.stopped.Go(func() { m.showLines(firstDelay, jsonEvery, m.json) })
	}
	return m
}

// mode decides what auto is.
func (a *app) mode() string {
	switch {
	case a.quiet:
		return progressNone
	case a.progress != progressAuto:
		return a.progress
	}
	if f, ok := a.stderr.(*os.File); ok && os.Getenv("TERM") != "dumb" {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return progressBars
		}
	}
	return progressPlain
}

// report replaces what is known.
func (m *meter) report(e event) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Phase != m.last.Phase {
		m.begun = now
	}
	m.last, m.reported = e, now
}

// pipeline is the OnProgress of a pipeline.
func (m *meter) pipeline(p pipeline.Progress) {
	if p.Phase == "done" {
		return // the result says so
	}
	e := event{Phase: p.Phase, Epoch: p.Epoch, Epochs: p.Epochs}
	if p.Epoch > 0 && !math.IsNaN(p.Loss) && !math.IsInf(p.Loss, 0) { // which JSON has not
		e.Loss = &p.Loss
	}
	if p.Fill != nil {
		e.Rows = p.Fill.Rows
		for _, s := range p.Fill.Encoders {
			e.Objects += s.Objects
			e.Reused += s.Reused + s.Resumed
			e.Encoded += s.Encoded
		}
	}
	m.report(e)
}

// latest returns what is known now; ok is false before the first report.
func (m *meter) latest() (e event, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e = m.last
	e.Event, e.Seconds, e.reported = "progress", time.Since(m.begun).Seconds(), m.reported.Sub(m.begun).Seconds()
	return e, e.Phase != ""
}

// showLines prints a line now and then, and a last one if there was a first.
func (m *meter) showLines(first, every time.Duration, print func(event)) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	shown := false
	for {
		select {
		case <-timer.C:
			timer.Reset(every)
		case <-m.stop:
			if e, ok := m.latest(); ok && shown {
				print(e)
			}
			return
		}
		if e, ok := m.latest(); ok {
			shown = true
			print(e)
		}
	}
}

func (m *meter) plain(e event) {
	fmt.Fprintf(m, "%s: %s\n", e.Phase, cmp.Or(e.text(), span(e.Seconds)))
}

func (m *meter) json(e event) {
	b, _ := json.Marshal(e)
	_, _ = m.Write(append(b, '\n'))
}

// showBars draws the bars until the end.
func (m *meter) showBars() {
	select {
	case <-time.After(firstDelay):
	case <-m.stop:
		return
	}
	b := newBars(m.out)
	m.setBars(b)
	tick := time.NewTicker(barsEvery)
	defer tick.Stop()
	for {
		if e, ok := m.latest(); ok {
			b.show(e)
		}
		select {
		case <-tick.C:
		case <-m.stop:
			m.setBars(nil)
			b.close()
			return
		}
	}
}

func (m *meter) setBars(b *bars) {
	m.outMu.Lock()
	defer m.outMu.Unlock()
	m.bars = b
}

// Write prints a log's lines, above the bars where there are any.
func (m *meter) Write(b []byte) (int, error) {
	m.outMu.Lock()
	defer m.outMu.Unlock()
	if m.bars != nil {
		return m.bars.Write(b)
	}
	return m.out.Write(b)
}

// done ends the meter and waits for the last report to be shown.
func (m *meter) done() {
	close(m.stop)
	m.stopped.Wait()
}
