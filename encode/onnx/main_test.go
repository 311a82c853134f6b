package onnx

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/encode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// benchDir is where the scripts keep what is too large for the repository.
func benchDir() string {
	if dir := os.Getenv("PERMAFROST_BENCH_DIR"); dir != "" {
		return dir
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, ".cache", "permafrost-bench")
}

// testLibrary is the library for tests: the one that users would get, else
// that of the virtual environment that .ci/full.d/onnx makes. A test that
// needs it is skipped without.
func testLibrary(t testing.TB) string {
	t.Helper()
	if !cgoOn {
		t.Skip(ErrNoCgo)
	}
	f := newFinder()
	file, err := f.find("")
	if err == nil {
		return file
	}
	found, _ := filepath.Glob(filepath.Join(benchDir(), "onnx", "lib", "python3*", "site-packages", "onnxruntime", "capi"))
	for _, dir := range found {
		if file := f.in(dir); file != "" {
			return file
		}
	}
	t.Skip(err)
	return ""
}

// testModel is a model of the library for tests.
func testModel(t testing.TB, o Options) encode.Model {
	t.Helper()
	o.Library = testLibrary(t)
	return o.Model()
}

func open(t testing.TB, m encode.Model) encode.Encoder {
	t.Helper()
	enc, err := m.Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := enc.Close(); err != nil {
			t.Error(err)
		}
	})
	return enc
}

func texts(of ...string) []encode.Input {
	batch := make([]encode.Input, len(of))
	for i, s := range of {
		batch[i] = encode.Input{encode.TextValue(s)}
	}
	return batch
}

func embed(t testing.TB, enc encode.Encoder, batch []encode.Input) [][]float32 {
	t.Helper()
	dst := make([]float32, len(batch)*enc.Dim())
	if err := enc.Encode(t.Context(), batch, dst); err != nil {
		t.Fatal(err)
	}
	return slices.Collect(slices.Chunk(dst, enc.Dim()))
}
