package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// chart is a curve over epochs. The plot's coordinates are per mille of its
// width and height, from the upper left corner.
type chart struct {
	Name   string
	First  string // its values, for people
	Last   string
	Line   string // the points of a polyline
	Dots   []dot  // the same points, to be pointed at; none of very many
	YTicks []tick
	XTicks []tick
	Base   *tick // a value to compare with
	Best   *dot  // the best epoch's point
	epochs []int // of the points
}

type dot struct{ X, Y, Title string }

type tick struct{ At, Label string }

const (
	// mostDots is the number of points beyond which they run into each other.
	mostDots = 300
	// margin is the share of a plot's height above and below its curve.
	margin = 0.08
)

// point is a value of an epoch.
type point struct {
	epoch int
	value float64
}

// charts are those of the loss, of every value that was measured between
// epochs, of the learning rate where it is known, and of the epochs' times.
func charts(d *Data) []chart {
	out := []chart{newChart("loss", curve(d.Epochs, func(e Epoch) (float64, bool) { return e.Loss, true }), significant, nil)}
	names, rates := map[string]bool{}, false
	best := -1
	for _, e := range d.Epochs {
		for name := range e.Validation {
			names[name] = true
		}
		rates = rates || e.LR != 0
		if e.Best {
			best = e.Epoch + 1
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		var base *float64
		format := significant
		if d.Eval != nil {
			if v, ok := d.Eval.Baseline[name]; ok {
				base, format = &v, decimals
			}
		}
		out = append(out, newChart(name, curve(d.Epochs, func(e Epoch) (float64, bool) {
			v, ok := e.Validation[name]
			return v, ok
		}), format, base))
	}
	if rates {
		out = append(out, newChart("learning rate", curve(d.Epochs, func(e Epoch) (float64, bool) { return e.LR, true }), significant, nil))
	}
	zero := 0.0
	seconds := newChart("seconds an epoch", curve(d.Epochs, func(e Epoch) (float64, bool) { return e.Seconds, true }), significant, &zero)
	seconds.Base = nil
	out = append(out, seconds)
	for i := range out {
		out[i].mark(best)
	}
	return out
}

// mark marks the best epoch.
func (c *chart) mark(epoch int) {
	at := slices.Index(c.epochs, epoch)
	if at >= 0 {
		xy := strings.Fields(c.Line)[at]
		x, y, _ := strings.Cut(xy, ",")
		c.Best = &dot{x, y, fmt.Sprintf("the best epoch: %d", epoch)}
	}
}

func curve(epochs []Epoch, value func(Epoch) (float64, bool)) (out []point) {
	for _, e := range epochs {
		if v, ok := value(e); ok && !math.IsNaN(v) && !math.IsInf(v, 0) {
			out = append(out, point{e.Epoch + 1, v})
		}
	}
	return out
}

func significant(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

func decimals(v float64) string { return strconv.FormatFloat(v, 'f', 4, 64) }

// newChart draws points, on a scale that has base on it, too, if there is one.
func newChart(name string, points []point, format func(float64) string, base *float64) chart {
	c := chart{Name: name}
	if len(points) == 0 {
		return c
	}
	lo, hi := points[0].value, points[0].value
	for _, p := range points {
		lo, hi = min(lo, p.value), max(hi, p.value)
	}
	if base != nil {
		lo, hi = min(lo, *base), max(hi, *base)
	}
	if lo == hi { // a flat line in the middle
		pad := max(math.Abs(lo)/10, 1e-3)
		lo, hi = lo-pad, hi+pad
	}
	y := func(v float64) float64 { return 1000 * (1 - margin - (1-2*margin)*(v-lo)/(hi-lo)) }
	first, last := points[0].epoch, points[len(points)-1].epoch
	x := func(epoch int) float64 {
		if first == last {
			return 500
		}
		return 1000 * float64(epoch-first) / float64(last-first)
	}
	c.First, c.Last = format(points[0].value), format(points[len(points)-1].value)
	var line []string
	for _, p := range points {
		px, py := mille(x(p.epoch)), mille(y(p.value))
		line = append(line, px+","+py)
		c.epochs = append(c.epochs, p.epoch)
		if len(points) <= mostDots {
			c.Dots = append(c.Dots, dot{px, py, fmt.Sprintf("epoch %d: %s", p.epoch, format(p.value))})
		}
	}
	c.Line = strings.Join(line, " ")
	step := niceStep((hi - lo) / 4)
	for k := math.Ceil(lo / step); k*step <= hi+step/1e6; k++ {
		c.YTicks = append(c.YTicks, tick{percent(y(k * step)), tickText(k*step, step)})
	}
	for _, e := range epochTicks(first, last) {
		c.XTicks = append(c.XTicks, tick{percent(x(e)), strconv.Itoa(e)})
	}
	if base != nil {
		c.Base = &tick{mille(y(*base)), format(*base)}
	}
	return c
}

// niceStep is the least of 1, 2 and 5 times a power of ten that is no less
// than a width.
func niceStep(width float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(width)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= width*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// tickText writes a multiple of step with as many decimals as step has.
func tickText(v, step float64) string {
	if step >= 1e6 || step < 1e-4 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return strconv.FormatFloat(v+0, 'f', max(0, -int(math.Floor(math.Log10(step)+1e-9))), 64)
}

// epochTicks are the first and the last epoch, and multiples of a step between
// them.
func epochTicks(first, last int) []int {
	if first == last {
		return []int{first}
	}
	step := max(1, int(niceStep(float64(last-first)/5)))
	ticks := []int{first}
	for e := (first/step + 1) * step; e < last; e += step {
		if e-first >= step/2 && last-e >= (step+1)/2 {
			ticks = append(ticks, e)
		}
	}
	return append(ticks, last)
}

func mille(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

func percent(mille float64) string { return strconv.FormatFloat(mille/10, 'f', 2, 64) }
