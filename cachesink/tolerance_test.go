package cachesink

import (
	"math"
	"testing"
)

// TestCompareStored: what arithmetic and rounding explain is let pass, and no
// more.
func TestCompareStored(t *testing.T) {
	fresh := []float32{0.6, -0.8, 0, 1e-3}
	next := func(v float32, n int) float32 {
		for range n {
			v = math.Nextafter32(v, 1)
		}
		return v
	}
	half, _ := rounded(Float16, fresh)
	bytes, step := rounded(Int8, fresh)
	huge := []float32{1e30, 0, 0, 0}
	for name, c := range map[string]struct {
		d            DType
		stored       []float32
		fresh        []float32
		equal, stale bool
	}{
		"the same":             {Float32, fresh, fresh, true, false},
		"zeros":                {Float32, make([]float32, 4), make([]float32, 4), true, false},
		"a zero's sign":        {Float32, []float32{0.6, -0.8, float32(math.Copysign(0, -1)), 1e-3}, fresh, false, false},
		"last bits":            {Float32, []float32{next(0.6, 50), -0.8, 0, 1e-3}, fresh, false, false},
		"a value":              {Float32, []float32{0.6, -0.8, 2e-5, 1e-3}, fresh, false, true},
		"nothing stored":       {Float32, make([]float32, 4), fresh, false, true},
		"float16":              {Float16, half, fresh, true, false},
		"float16, a step":      {Float16, []float32{half[0] + 0x1p-11, half[1], 0, half[3]}, fresh, false, false},
		"float16, two steps":   {Float16, []float32{half[0] + 0x1p-10, half[1], 0, half[3]}, fresh, false, true},
		"float16, cannot hold": {Float16, half, huge, false, true},
		"int8":                 {Int8, bytes, fresh, true, false},
		"int8, a step":         {Int8, []float32{bytes[0] + float32(step), bytes[1], 0, bytes[3]}, fresh, false, false},
		"int8, two steps":      {Int8, []float32{bytes[0] + 2*float32(step), bytes[1], 0, bytes[3]}, fresh, false, true},
	} {
		got := compareStored(c.d, c.stored, c.fresh)
		if got.equal != c.equal || got.stale != c.stale || math.IsNaN(got.difference) || math.IsInf(got.difference, 0) || got.difference == 0 && c.stale {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
