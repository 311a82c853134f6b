package onnx

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

func TestReadGraph(t *testing.T) {
	ids := "input_ids int64[batch, sequence]; attention_mask int64[batch, sequence]"
	for name, want := range map[string]struct {
		inputs, outputs string
		files           []string
	}{
		"tiny/model.onnx":        {ids, "sentence_embedding float32[batch, 16]", nil},
		"hidden/onnx/model.onnx": {ids, "last_hidden_state float32[batch, sequence, 16]", nil},
		"half/model.onnx":        {ids, "sentence_embedding float16[batch, 16]", nil},
		"open/model.onnx":        {ids, "last_hidden_state float32[]", nil},
		"slow/model.onnx":        {ids, "embedding float32[batch, 1]", nil},
		"external/model.onnx":    {ids, "sentence_embedding float32[batch, 16]", []string{"weights.bin"}},
		"fixed/model.onnx":       {"input_ids int32[3, 12]; attention_mask int32[3, 12]; token_type_ids int32[3, 12]", "sentence_embedding float32[3, 16]", nil},
	} {
		b, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		g, err := readGraph(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if list(g.inputs) != want.inputs || list(g.outputs) != want.outputs || !slices.Equal(g.files, want.files) {
			t.Errorf("%s: %s -> %s, files %q", name, list(g.inputs), list(g.outputs), g.files)
		}
		// Cut files end in an error, or before a field: never in a panic.
		for n := 0; n < len(b); n += 1 + n/50 {
			if cut, err := readGraph(bytes.NewReader(b[:n]), int64(n)); err == nil && len(cut.inputs) > len(g.inputs) {
				t.Errorf("%s cut to %d bytes: %s", name, n, list(cut.inputs))
			}
		}
	}
}

// TestReadGraphNeedsLittleMemory reads a message whose lengths lie.
func TestReadGraphNeedsLittleMemory(t *testing.T) {
	huge := []byte{7<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0x7f}                                // a graph of 32 GiB
	name := append([]byte{7<<3 | 2, 0x84, 0x80, 0x80, 0x01, 11<<3 | 2}, 0xfe, 0xff, 0x7f) // an input of 2 MiB
	deep := []byte{}
	for range 2000 { // graph in attribute in node in graph ...
		for _, tag := range []byte{6<<3 | 2, 5<<3 | 2, 1<<3 | 2} {
			deep = append(append([]byte{tag}, varint(len(deep))...), deep...)
		}
	}
	deep = append(append([]byte{7<<3 | 2}, varint(len(deep))...), deep...)
	var before, after runtime.MemStats
	for what, b := range map[string][]byte{"huge": huge, "name": name, "deep": deep, "cut tag": {0x80}, "group": {7<<3 | 3}, "zero": {0}} {
		runtime.ReadMemStats(&before)
		_, err := readGraph(bytes.NewReader(b), int64(len(b)))
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: no error", what)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes were allocated", what, n)
		}
	}
}

func varint(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func FuzzReadGraph(f *testing.F) {
	for _, name := range []string{"slow/model.onnx", "open/model.onnx", "external/model.onnx"} {
		b, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(name)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := readGraph(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, v := range slices.Concat(g.inputs, g.outputs) {
			if len(v.dims) != len(v.symbols) || len(v.String()) > 4*len(b)+100 {
				t.Errorf("value %v", &v)
			}
		}
	})
}
