package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/human"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"count": func(n any) (string, error) { v, err := whole(n); return human.Count(v), err },
	"plural": func(n any, one, many string) (string, error) {
		v, err := whole(n)
		return human.Plural(v, one, many), err
	},
	"size":  human.Size,
	"span":  human.Span,
	"short": func(s string) string { return s[:min(12, len(s))] },
}).Parse(pageText))

func whole(n any) (int64, error) {
	switch n := n.(type) {
	case int:
		return int64(n), nil
	case int64:
		return n, nil
	case float64:
		return int64(n), nil
	}
	return 0, fmt.Errorf("%v is no number", n)
}

// view is Data with what its page needs of it.
type view struct {
	*Data
	Charts  []chart
	Metrics []metricRow
}

// Foremost are the metrics at the top of the page: all, or the first of many.
func (v view) Foremost() []metricRow { return v.Metrics[:min(4, len(v.Metrics))] }

// Legend says what the marks in the charts are.
func (v view) Legend() string {
	var parts []string
	if slices.ContainsFunc(v.Charts, func(c chart) bool { return c.Base != nil }) {
		parts = append(parts, "The dashed line is the baseline.")
	}
	if at := slices.IndexFunc(v.Charts, func(c chart) bool { return c.Best != nil }); at >= 0 {
		parts = append(parts, "The large point is "+v.Charts[at].Best.Title+".")
	}
	return strings.Join(parts, " ")
}

// metricRow is a metric before and after training.
type metricRow struct {
	Name                   string
	Baseline, Tuned, Delta string
	Spread                 [2]string // deviations, empty without samples
	Bars                   [2]string // per cent
	Better, Worse          bool
}

// Write writes the page of d.
func Write(w io.Writer, d *Data) error {
	if _, err := json.Marshal(d); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := page.Execute(w, view{d, charts(d), metricRows(d.Eval)}); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func metricRows(e *Eval) []metricRow {
	if e == nil {
		return nil
	}
	var rows []metricRow
	for _, name := range slices.Sorted(maps.Keys(e.Baseline)) {
		before, after := e.Baseline[name], e.Tuned[name]
		r := metricRow{
			Name: name, Baseline: decimals(before), Tuned: decimals(after), Delta: fmt.Sprintf("%+.4f", after-before),
			Bars: [2]string{bar(before), bar(after)}, Better: after > before, Worse: after < before,
		}
		if e.Repeats > 0 {
			r.Spread = [2]string{decimals(e.BaselineDeviation[name]), decimals(e.TunedDeviation[name])}
		}
		rows = append(rows, r)
	}
	return rows
}

// bar is the length of a metric's bar: all of it is 1, and below 0 there is
// none.
func bar(v float64) string { return percent(1000 * min(max(v, 0), 1)) }

// String names a module with its options, of which those without a value are
// left out.
func (m Module) String() string {
	var options []string
	for _, name := range slices.Sorted(maps.Keys(m.Params)) {
		switch v := m.Params[name].(type) {
		case nil:
		case string:
			if v != "" {
				options = append(options, name+" "+v)
			}
		case float64:
			options = append(options, name+" "+strconv.FormatFloat(v, 'g', -1, 64))
		default:
			options = append(options, fmt.Sprintf("%s %v", name, v))
		}
	}
	if len(options) == 0 {
		return m.Type
	}
	return m.Type + " (" + strings.Join(options, ", ") + ")"
}

// WithCache is the time of the run's fill and epochs.
func (t Times) WithCache() float64 { return t.FillSeconds + t.TrainSeconds }

// Uncached is an estimate of the time of n epochs without the cache.
func (t Times) Uncached(n int) float64 { return float64(n) * t.UncachedEpochSeconds() }

// Share is WithCache in per cent of Uncached for n epochs, as the length of a
// bar: the longer of the two is 100.
func (t Times) Share(n int) [2]string {
	a, b := t.WithCache(), t.Uncached(n)
	most := max(a, b, 1e-9)
	return [2]string{percent(1000 * a / most), percent(1000 * b / most)}
}
