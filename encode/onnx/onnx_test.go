package onnx

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/encodetest"
)

// tiny is what tools/onnx/tiny.py wrote: texts, and what sentence-transformers
// gives for them.
type tiny struct {
	Texts          []string
	Mean, Cls, Max [][]float64
}

func tinyReference(t testing.TB) (ref tiny) {
	t.Helper()
	b, err := os.ReadFile("testdata/reference.json")
	if err == nil {
		err = json.Unmarshal(b, &ref)
	}
	if err != nil || len(ref.Texts) < 10 {
		t.Fatal(len(ref.Texts), err)
	}
	return ref
}

func near(t testing.TB, batch []encode.Input, got [][]float32, want [][]float64, most float64) {
	t.Helper()
	for i, v := range got {
		for d, x := range v {
			if diff := math.Abs(float64(x) - want[i][d]); !(diff <= most) {
				t.Fatalf("value %d of %.40q is %v, want %v", d, batch[i].Text(), x, want[i][d])
			}
		}
	}
}

func TestEqualsSentenceTransformers(t *testing.T) {
	ref := tinyReference(t)
	no, yes := false, true
	cut, shorter := make([][]float64, len(ref.Cls)), make([][]float64, len(ref.Cls))
	for i, v := range ref.Cls {
		cut[i], shorter[i] = normalized(v[:5]), ref.Mean[i][:5]
	}
	for name, tc := range map[string]struct {
		options Options
		want    [][]float64
		most    float64
	}{
		"pooled":       {Options{Path: "tiny"}, ref.Mean, 1e-6},
		"file":         {Options{Path: "tiny/model.onnx"}, ref.Mean, 1e-6},
		"hidden":       {Options{Path: "hidden"}, ref.Mean, 1e-6},
		"hidden file":  {Options{Path: "hidden/onnx/model.onnx"}, ref.Mean, 1e-6},
		"cls":          {Options{Path: "hidden", Pooling: "cls", Normalize: &no}, ref.Cls, 4e-6},
		"max":          {Options{Path: "hidden", Pooling: "max"}, ref.Max, 4e-6},
		"truncated":    {Options{Path: "hidden", Pooling: "cls", Normalize: &yes, TruncateDim: 5}, cut, 2e-6},
		"shorter":      {Options{Path: "hidden", TruncateDim: 5}, shorter, 1e-6},
		"shorter too":  {Options{Path: "tiny", TruncateDim: 5}, shorter, 1e-6},
		"float16":      {Options{Path: "half"}, ref.Mean, 4e-3},
		"open shape":   {Options{Path: "open"}, ref.Mean, 1e-6},
		"fixed shape":  {Options{Path: "fixed"}, ref.Mean, 1e-6},
		"own weights":  {Options{Path: "external"}, ref.Mean, 1e-6},
		"more threads": {Options{Path: "tiny", Threads: 2}, ref.Mean, 1e-6},
	} {
		t.Run(name, func(t *testing.T) {
			tc.options.Path = filepath.Join("testdata", filepath.FromSlash(tc.options.Path))
			enc := open(t, testModel(t, tc.options))
			batch := texts(ref.Texts...)
			near(t, batch, embed(t, enc, batch), tc.want, tc.most)
			for i := range batch { // and alone
				near(t, batch[i:], embed(t, enc, batch[i:i+1]), tc.want[i:], tc.most)
			}
		})
	}
}

// TestRoberta is a graph that counts positions from the padding's id on, with a
// byte-level tokenizer: it gives what sentence-transformers gives for the model
// that it was made of, with texts of all lengths in one batch.
func TestRoberta(t *testing.T) {
	const source = "../bert/testdata/"
	b, err := os.ReadFile(source + "texts.json")
	if err != nil {
		t.Fatal(err)
	}
	var of [][]byte // in base64
	if err := json.Unmarshal(b, &of); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(source + "roberta/reference.f32"); err != nil {
		t.Fatal(err)
	}
	enc := open(t, testModel(t, Options{Path: "testdata/roberta"}))
	if len(of) < 50 || len(b) != 4*len(of)*enc.Dim() {
		t.Fatalf("%d bytes of vectors for %d texts", len(b), len(of))
	}
	batch, want := make([]encode.Input, len(of)), make([][]float64, len(of))
	for i, text := range of {
		batch[i] = encode.Input{encode.TextValue(string(text))}
		for range enc.Dim() {
			want[i] = append(want[i], float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
			b = b[4:]
		}
	}
	near(t, batch, embed(t, enc, batch), want, 2e-6)
}

func normalized(v []float64) []float64 {
	length, out := 0.0, make([]float64, len(v))
	for _, x := range v {
		length += x * x
	}
	for i, x := range v {
		out[i] = x / math.Sqrt(length)
	}
	return out
}

func TestContract(t *testing.T) {
	for _, name := range []string{"tiny", "hidden", "half", "fixed", "open", "roberta"} {
		t.Run(name, func(t *testing.T) {
			encodetest.Run(t, testModel(t, Options{Path: filepath.Join("testdata", name)}), encodetest.Options{})
		})
	}
}

// TestMaxLength: what lies behind the last token has no effect.
func TestMaxLength(t *testing.T) {
	enc := open(t, testModel(t, Options{Path: "testdata/tiny", MaxLength: 5}))
	v := embed(t, enc, texts("how do i", "how do i get a key", "how do", "how do get"))
	if same(v[0], v[2]) || !same(v[0], v[1]) || same(v[0], v[3]) {
		t.Error("of a text three tokens count, no more and no fewer")
	}
	// The directory says 12, the model has 24 positions.
	long := open(t, testModel(t, Options{Path: "testdata/tiny", MaxLength: 24}))
	of := texts(strings.Repeat("cat ", 30), strings.Repeat("cat ", 9)+" mat mat mat")
	if v := embed(t, long, of); same(v[0], v[1]) {
		t.Error("with max_length 24 the eleventh word does not count")
	}
}

func same(a, b []float32) bool {
	for i := range a {
		if math.Abs(float64(a[i]-b[i])) > 1e-6 {
			return false
		}
	}
	return true
}

// TestCancel ends a run that would take minutes, and then one more.
func TestCancel(t *testing.T) {
	enc := open(t, testModel(t, Options{Path: "testdata/slow"}))
	for range 2 {
		ctx, cancel := context.WithCancelCause(t.Context())
		start := make(chan time.Time, 1)
		time.AfterFunc(200*time.Millisecond, func() {
			start <- time.Now()
			cancel(errors.New("enough"))
		})
		err := enc.Encode(ctx, texts("how do i get a key"), make([]float32, 1))
		if took := time.Since(<-start); took > 2*time.Second {
			t.Errorf("Encode returned %v after its context ended", took)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled Encode gives %v", err)
		}
	}
}

// TestOpenAndCloseLeakNothing opens, uses and closes many encoders.
func TestOpenAndCloseLeakNothing(t *testing.T) {
	m := testModel(t, Options{Path: "testdata/tiny"})
	cycle := func(times int) {
		for range times {
			enc, err := m.Open(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			embed(t, enc, texts("how do i get a key", "cat"))
			if err := enc.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	cycle(20)
	before, ok := resident()
	if !ok {
		t.Skip("the resident size of a process is not known here")
	}
	cycle(200)
	after, _ := resident()
	t.Logf("resident: %d KiB, after 200 more encoders %d KiB", before>>10, after>>10)
	if after > before+8<<20 {
		t.Errorf("200 encoders left %d KiB behind", (after-before)>>10)
	}
}

// resident is the resident size of this process, in bytes.
func resident() (int64, bool) {
	runtime.GC()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kib int64
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				return kib << 10, true
			}
		}
	}
	return 0, false
}
