package cli

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bars draws one bar on a terminal: that of the phase the work is in. It uses
// no colours.
type bars struct {
	p      *mpb.Progress
	bar    *mpb.Bar
	latest atomic.Pointer[event]
}

const barWidth = 24

func newBars(w io.Writer) *bars {
	return &bars{p: mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh())}
}

// show brings the bar up to date. It must not be called after close.
func (b *bars) show(e event) {
	if old := b.latest.Swap(&e); b.bar == nil || old.Phase != e.Phase {
		b.drop()
		b.bar = b.p.New(0, mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
			mpb.BarRemoveOnComplete(), mpb.BarWidth(barWidth),
			mpb.PrependDecorators(decor.Name(fmt.Sprintf("%-6s ", e.Phase))),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + b.latest.Load().text() })))
	}
	n, of := e.done()
	b.bar.SetTotal(max(of, 1), false)
	b.bar.SetCurrent(n)
}

func (b *bars) drop() {
	if b.bar != nil {
		b.bar.Abort(true)
		b.bar.Wait()
		b.bar = nil
	}
}

// Write prints above the bar.
func (b *bars) Write(p []byte) (int, error) { return b.p.Write(p) }

// close removes the bar and waits until that is done.
func (b *bars) close() {
	b.drop()
	b.p.Wait()
}
