package imageprep

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
)

// vectors are what tools/onnx/pictures.py wrote: pictures made by Pillow, and
// what they become.
type vectors struct {
	Pictures map[string][]byte
	Cases    []struct {
		Picture string
		Config  json.RawMessage
		Shape   [3]int
		Values  []byte
	}
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	f, err := os.Open("testdata/pictures.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err == nil {
		err = json.NewDecoder(z).Decode(&v)
	}
	if err != nil || len(v.Cases) < 50 || len(v.Pictures) < 20 {
		t.Fatalf("%d cases, %d pictures: %v", len(v.Cases), len(v.Pictures), err)
	}
	return v
}

// TestEqualsPillow: what is decoded without loss is equal to the last bit
// whatever is done to it; of JPEG and lossy WebP, levels differ as decoders do.
func TestEqualsPillow(t *testing.T) {
	v := readVectors(t)
	for _, c := range v.Cases {
		r, err := Parse(c.Config)
		if err != nil {
			t.Errorf("%s: %v", c.Config, err)
			continue
		}
		if h, w := r.Size(); h != c.Shape[1] || w != c.Shape[2] || c.Shape[0] != 3 {
			t.Errorf("%s: %d x %d, want %v", c.Config, h, w, c.Shape)
			continue
		}
		got := make([]float32, len(c.Values)/4)
		if err := r.Prepare(got, v.Pictures[c.Picture]); err != nil {
			t.Errorf("%s, %s: %v", c.Picture, c.Config, err)
			continue
		}
		worst, sum := 0.0, 0.0
		for i, x := range got {
			want := math.Float32frombits(binary.LittleEndian.Uint32(c.Values[4*i:]))
			d := math.Abs(float64(x) - float64(want))
			worst, sum = max(worst, d), sum+d
		}
		lossy := strings.HasSuffix(c.Picture, ".jpg") || c.Picture == "lossy.webp"
		if mean := sum / float64(len(got)); worst > 0 && !lossy || worst > 4 || mean > 0.6 {
			t.Errorf("%s, %s: values differ by up to %v, %.3v on average", c.Picture, c.Config, worst, mean)
		} else if lossy {
			t.Logf("%s: levels differ by up to %v, %.3v on average", c.Picture, worst, mean)
		}
	}
}
