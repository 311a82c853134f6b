package kernels

import (
	"math"
	"testing"
)

// TestHalves: every half becomes its value and comes back, and what lies
// between two goes to the nearer one, at a tie to the even one.
func TestHalves(t *testing.T) {
	profiles(t, func(t *testing.T) {
		src, wide, back := make([]uint16, 1<<16), make([]float32, 1<<16), make([]uint16, 1<<16)
		for i := range src {
			src[i] = uint16(i)
		}
		FromFloat16(wide, src)
		ToFloat16(back, wide)
		for i, h := range src {
			exponent, fraction := int(h>>10&31), float64(h&0x3ff)
			want := math.Ldexp(1024+fraction, exponent-25)
			switch {
			case exponent == 0:
				want = math.Ldexp(fraction, -24)
			case exponent == 31 && fraction == 0:
				want = math.Inf(1)
			case exponent == 31:
				if wide[i] == wide[i] || back[i] != h|0x200 {
					t.Fatalf("NaN %#x becomes %v and %#x", h, wide[i], back[i])
				}
				continue
			}
			if got := float64(wide[i]); math.Abs(got) != want || math.Signbit(got) != (h>>15 == 1) || back[i] != h {
				t.Fatalf("%#x becomes %v and %#x, want %v", h, got, back[i], want)
			}
		}
		var between []float32
		var want []uint16
		for h := uint16(0); h < 0x7bff; h++ {
			tie := (wide[h] + wide[h+1]) / 2
			even := h + h&1
			between = append(between, tie, math.Nextafter32(tie, 0), -math.Nextafter32(tie, 1e9))
			want = append(want, even, h, (h+1)|0x8000)
		}
		between = append(between, 65519.99, 65520, 1e30, -math.MaxFloat32, math.SmallestNonzeroFloat32)
		want = append(want, 0x7bff, 0x7c00, 0x7c00, 0xfc00, 0)
		got := make([]uint16, len(between))
		ToFloat16(got, between)
		for i, w := range want {
			if got[i] != w {
				t.Fatalf("%v becomes %#x, want %#x", between[i], got[i], w)
			}
		}
	})
}
