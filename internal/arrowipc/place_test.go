package arrowipc

import (
	"bytes"
	"math/rand"
	"slices"
	"testing"
)

// TestPlace: the buffers of whatever file lie in it, and its record batches
// have the rows that reading gives; what is compressed, has dictionaries or is
// a stream is refused.
func TestPlace(t *testing.T) {
	placed := 0
	place := func(b []byte) (rows int64, err error) {
		d, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return 0, err
		}
		batches, err := d.Place()
		for _, p := range batches {
			rows += p.Rows
			for _, e := range p.Buffers {
				if err == nil && (e.At < 0 || e.Size < 0 || e.At+e.Size > int64(len(b))) {
					t.Fatalf("a buffer of %d bytes at %d of %d", e.Size, e.At, len(b))
				}
			}
		}
		return rows, err
	}
	rng := rand.New(rand.NewSource(1))
	for name, b := range samples(t) {
		rows, err := place(b)
		if err == nil {
			placed++
			if want, err := readAll(b, 1); err != nil || rows != want {
				t.Errorf("%s: %d rows, %d are read, error %v", name, rows, want, err)
			}
		}
		for range 300 {
			damaged := slices.Clone(b)
			damaged[rng.Intn(len(b))] ^= 1 << rng.Intn(8)
			_, _ = place(damaged) // no panic, and nothing outside
		}
	}
	if placed == 0 {
		t.Error("no file was placed")
	}
}
