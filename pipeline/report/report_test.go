package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// attack is a text that tries to leave every place that a page may put it in.
const attack = `"'><script>alert(1)</script><img src=x onerror=alert(1)>--></style></script></title>` + "`${1}`\u2028{{.}}"

// sample is a report whose texts are all t.
func sample(t string, epochs int) *Data {
	d := &Data{
		SchemaVersion: 1,
		Train: Train{
			Split: t, Rows: 6373, BatchSize: 1024, Seed: 42, In: 384, Out: 384,
			Head: Module{Type: t, Params: map[string]any{t: t}}, Loss: Module{Type: t}, Optimizer: Module{Type: "adam", Params: map[string]any{"lr": 1e-3, "note": ""}},
		},
		Eval: &Eval{
			Split: t, Objects: 4250, Queries: 1000, Repeats: 5,
			Baseline: map[string]float64{t: 0.25, "falls": 0.5, "spearman": -0.5}, Tuned: map[string]float64{t: 0.5, "falls": 0.25, "spearman": 0.125},
			BaselineDeviation: map[string]float64{t: 0.01}, TunedDeviation: map[string]float64{t: 0.02},
		},
		Times: Times{
			FillSeconds: 100, Rows: 8498, Objects: 16000, Encoded: 16000, FirstEpochSeconds: 0.3, EpochSeconds: 0.25, TrainSeconds: 10,
			SamplesPerSecond: 25000, EncodedPerSecond: 160, EpochObjects: 12746,
		},
		Examples: []Example{{Text: t, Before: []Hit{{t, 0.5, false}}, After: []Hit{{t, 0.75, true}}}},
		Encoders: []Encoder{{Name: t, Engine: t, Dim: 384, CacheType: t, DType: t, Objects: 16000, Reads: t, Fingerprint: t, Fields: map[string]string{t: t}, Trained: &Module{Type: t}}},
		Cache:    Cache{Dir: t, Bytes: 25_000_000, Generation: 3},
	}
	for i := range epochs {
		e := Epoch{Epoch: i, Loss: 2 / float64(i+1), Seconds: 0.25, LR: 1e-3 / float64(i+1)}
		if i%2 == 1 {
			e.Validation, e.Best = map[string]float64{t: 0.25 + float64(i)/1000, "val_loss": 3}, i < 6
		}
		d.Epochs = append(d.Epochs, e)
	}
	return d
}

func write(t *testing.T, d *Data) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestTextsAreData: whatever a dataset or a config holds, it neither adds an
// element nor ends one, and comes back from the JSON as it was.
func TestTextsAreData(t *testing.T) {
	tags := regexp.MustCompile(`<[a-z!/][a-z0-9]*`)
	plain, got := write(t, sample("plain", 9)), write(t, sample(attack, 9))
	if want, got := tags.FindAllString(plain, -1), tags.FindAllString(got, -1); !slices.Equal(want, got) {
		t.Errorf("%d elements begin or end, want %d", len(got), len(want))
	}
	if n := strings.Count(got, "<script"); n != 1 {
		t.Errorf("%d scripts", n)
	}
	if !strings.Contains(got, "&lt;img src=x onerror=alert(1)&gt;") {
		t.Error("the text is not shown")
	}
	for _, text := range []string{"plain", attack} {
		want := sample(text, 9)
		_, rest, _ := strings.Cut(write(t, want), `<script type="application/json" id="data">`)
		inside, _, _ := strings.Cut(rest, "</script>")
		var data Data
		if err := json.Unmarshal([]byte(inside), &data); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(&data, want) {
			t.Errorf("the JSON is\n%+v, want\n%+v", data, want)
		}
	}
}

// TestNothingIsFetched: the page names no other place.
func TestNothingIsFetched(t *testing.T) {
	page := write(t, sample("plain", 3))
	for _, place := range regexp.MustCompile(`(src|href|action|url|@import|data)[=(]\s*"?[^" )]*|https?:`).FindAllString(page, -1) {
		if place != `href="data:,` {
			t.Errorf("the page names %q", place)
		}
	}
	if !strings.Contains(page, `default-src 'none'`) {
		t.Error("the page lets itself load things")
	}
}

// TestChartsHaveAllPoints: a point for every epoch that has the value.
func TestChartsHaveAllPoints(t *testing.T) {
	for _, epochs := range []int{1, 2, 9, 300, 301, 5000} {
		cs := charts(sample("p@1", epochs))
		var names []string
		for _, c := range cs {
			names = append(names, c.Name)
			want := epochs
			if c.Name == "p@1" || c.Name == "val_loss" {
				want = epochs / 2
			}
			if n := len(strings.Fields(c.Line)); n != want {
				t.Errorf("%d epochs: %s has %d points", epochs, c.Name, n)
			}
			if want <= mostDots && len(c.Dots) != want || want > mostDots && len(c.Dots) != 0 {
				t.Errorf("%d epochs: %s has %d dots", epochs, c.Name, len(c.Dots))
			}
			for _, p := range strings.Fields(c.Line) {
				var x, y float64
				if _, err := fmt.Sscanf(p, "%f,%f", &x, &y); err != nil || x < 0 || x > 1000 || y < 0 || y > 1000 {
					t.Fatalf("%s: point %s, %v", c.Name, p, err)
				}
			}
			if len(c.YTicks) < 2 || len(c.YTicks) > 7 || len(c.XTicks) < min(2, want) || len(c.XTicks) > 8 {
				t.Errorf("%d epochs: %s has the ticks %v and %v", epochs, c.Name, c.YTicks, c.XTicks)
			}
			if (c.Base != nil) != (c.Name == "p@1") {
				t.Errorf("the baseline of %s is %v", c.Name, c.Base)
			}
			if (c.Best != nil) != (epochs >= 2) {
				t.Errorf("%d epochs: the best of %s is %v", epochs, c.Name, c.Best)
			}
		}
		want := []string{"loss", "p@1", "val_loss", "learning rate", "seconds an epoch"}
		if epochs == 1 {
			want = []string{"loss", "learning rate", "seconds an epoch"}
		}
		if !slices.Equal(names, want) {
			t.Errorf("charts %v, want %v", names, want)
		}
	}
}

// TestChartScale follows one curve by hand.
func TestChartScale(t *testing.T) {
	c := newChart("x", []point{{1, 1}, {2, 3}, {5, 2}}, significant, nil)
	if want := "0.0,920.0 250.0,80.0 1000.0,500.0"; c.Line != want || c.First != "1" || c.Last != "2" {
		t.Errorf("got %q from %s to %s, want %q", c.Line, c.First, c.Last, want)
	}
	if want := []tick{{"92.00", "1.0"}, {"71.00", "1.5"}, {"50.00", "2.0"}, {"29.00", "2.5"}, {"8.00", "3.0"}}; !slices.Equal(c.YTicks, want) {
		t.Errorf("ticks %v, want %v", c.YTicks, want)
	}
	for _, test := range []struct {
		first, last int
		want        string
	}{{1, 1, "[1]"}, {1, 2, "[1 2]"}, {1, 12, "[1 5 12]"}, {1, 100, "[1 20 40 60 80 100]"}, {1, 500, "[1 100 200 300 400 500]"}} {
		if got := fmt.Sprint(epochTicks(test.first, test.last)); got != test.want {
			t.Errorf("epochs %d to %d have the ticks %s, want %s", test.first, test.last, got, test.want)
		}
	}
	for _, v := range []float64{0, 1e-9, -5, 1e12} {
		if c := newChart("flat", []point{{1, v}, {2, v}}, significant, nil); c.Line != "0.0,500.0 1000.0,500.0" || len(c.YTicks) == 0 {
			t.Errorf("a flat curve at %v is %q with the ticks %v", v, c.Line, c.YTicks)
		}
	}
}

// TestEstimate: without a measured rate there is none, and the page says so.
func TestEstimate(t *testing.T) {
	d := sample("plain", 40)
	if got, want := d.Times.UncachedEpochSeconds(), 0.25+12746.0/160; got != want {
		t.Errorf("an epoch without the cache takes %v, want %v", got, want)
	}
	if page := write(t, d); !strings.Contains(page, "(estimate)") || !strings.Contains(page, "53m17s") || !strings.Contains(page, "1m50s") {
		t.Error("the estimate is not shown")
	}
	d.Times.EncodedPerSecond, d.Times.Encoded = 0, 0
	if page := write(t, d); strings.Contains(page, "(estimate)") || !strings.Contains(page, "not measured") {
		t.Error("an estimate is shown where nothing was measured")
	}
}

// TestPageWithoutEval: nothing measured, nothing shown of it.
func TestPageWithoutEval(t *testing.T) {
	d := sample("plain", 1)
	d.Eval, d.Examples = nil, nil
	if page := write(t, d); strings.Contains(page, "baseline</th>") || strings.Contains(page, "neighbors") {
		t.Error("the page shows metrics")
	}
}

func TestMetricRows(t *testing.T) {
	rows := metricRows(sample("rises", 1).Eval)
	want := []metricRow{
		{Name: "falls", Baseline: "0.5000", Tuned: "0.2500", Delta: "-0.2500", Spread: [2]string{"0.0000", "0.0000"}, Bars: [2]string{"50.00", "25.00"}, Worse: true},
		{Name: "rises", Baseline: "0.2500", Tuned: "0.5000", Delta: "+0.2500", Spread: [2]string{"0.0100", "0.0200"}, Bars: [2]string{"25.00", "50.00"}, Better: true},
		{Name: "spearman", Baseline: "-0.5000", Tuned: "0.1250", Delta: "+0.6250", Spread: [2]string{"0.0000", "0.0000"}, Bars: [2]string{"0.00", "12.50"}, Better: true},
	}
	if !slices.Equal(rows, want) {
		t.Errorf("got %+v, want %+v", rows, want)
	}
}

func TestModule(t *testing.T) {
	m := Module{"adam", map[string]any{"lr": 1e-3, "variant": "", "layers": 2, "on": true, "none": nil}}
	if got, want := m.String(), "adam (layers 2, lr 0.001, on true)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNotANumber(t *testing.T) {
	d := sample("plain", 1)
	d.Epochs[0].Loss = math.NaN()
	if err := Write(&bytes.Buffer{}, d); err == nil {
		t.Error("a report of NaN is written, whose JSON cannot hold it")
	}
}
