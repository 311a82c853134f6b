package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// int8Rows are rows at the edges of the range, and random ones.
func int8Rows() [][]float32 {
	rows := [][]float32{
		nil,
		{0},
		{0, 0, 0},
		{float32(math.Copysign(0, -1))},
		{1},
		{-1},
		{127, 0.5, 1.5, 2.5, -0.5, -1.5}, // ties
		{0x1.fffffep126, -0x1.fffffep126, 1},
		{0x1p-149},
		{0x1p-142, -0x1p-149},
		{190 * 0x1p-149, -64 * 0x1p-149},
		{63 * 0x1p-149},
		{64 * 0x1p-149},
		{127 * 0x1p-126, 0x1p-126},
		{126 * 0x1p-126, 0x1p-130},
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 200 {
		row := make([]float32, n)
		for i := range row {
			row[i] = float32(rng.NormFloat64()) * float32(math.Exp2(float64(n-100)))
		}
		rows = append(rows, row)
	}
	return rows
}

// TestQuantizeInt8 holds the rows to the documented formula, computed another
// way, and the error of every value to half a step.
func TestQuantizeInt8(t *testing.T) {
	for _, row := range int8Rows() {
		var m float64
		for _, v := range row {
			m = max(m, math.Abs(float64(v)))
		}
		q := make([]int8, len(row)+1)
		q[len(row)] = 77
		scale := QuantizeInt8(q, row)
		if want := float32(m / 127); scale != want {
			t.Fatalf("scale %g of %v, want %g", scale, row, want)
		}
		back := make([]float32, len(row))
		DequantizeInt8(back, q[:len(row)], scale)
		for i, v := range row {
			var want float64
			if scale != 0 {
				want = max(-127, min(127, math.RoundToEven(float64(v/scale))))
			}
			if float64(q[i]) != want {
				t.Fatalf("%g with scale %g became %d, want %g", v, scale, q[i], want)
			}
			if back[i] != float32(q[i])*scale || math.IsInf(float64(back[i]), 0) {
				t.Fatalf("%d with scale %g became %g", q[i], scale, back[i])
			}
			if off := math.Abs(float64(back[i]) - float64(v)); scale >= 0x1p-126 && off > 0.50001*float64(scale) {
				t.Fatalf("%g became %g: off by more than half of %g", v, back[i], scale)
			}
		}
		if q[len(row)] != 77 {
			t.Fatal("written beyond the row")
		}
	}
}

func BenchmarkInt8(b *testing.B) {
	row, q := make([]float32, 384), make([]int8, 384)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range row {
		row[i] = float32(rng.NormFloat64())
	}
	for name, fn := range map[string]func(){
		"quantize":   func() { QuantizeInt8(q, row) },
		"dequantize": func() { DequantizeInt8(row, q, 0.01) },
	} {
		b.Run(fmt.Sprint(name, "/384"), func(b *testing.B) {
			b.SetBytes(4 * 384)
			for b.Loop() {
				fn()
			}
		})
	}
}
