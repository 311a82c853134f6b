package metric

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Sample says that metrics are estimated from random samples instead of
// computed from everything: each of Repeats samples has Size queries, which
// search among all objects, or Size pairs for a [Correlation]. The zero
// Sample is everything.
type Sample struct {
	// Size is the number of queries, or pairs, of a sample. Default: 0, all.
	Size int `json:"size"`
	// Repeats is the number of samples. Default: 10.
	Repeats int `json:"repeats"`
	// Seed decides the samples. Default: 0.
	Seed uint64 `json:"seed"`
}

// WithDefaults returns s with its defaults filled in.
func (s Sample) WithDefaults() Sample {
	if s.Size > 0 && s.Repeats == 0 {
		s.Repeats = 10
	}
	return s
}

// Validate reports options out of range.
func (s Sample) Validate() error {
	switch {
	case s.Size < 0 || s.Repeats < 0:
		return fmt.Errorf("sample: size %d and repeats %d must not be negative", s.Size, s.Repeats)
	case s.Size == 0 && s.Repeats > 0:
		return fmt.Errorf("sample: %d repeats of no size", s.Repeats)
	}
	return nil
}

// The streams of random numbers that a seed stands for.
const (
	queryStream = iota + 1
	pairStream
)

// draw returns samples of 0 to n-1, each in rising order. Elements for which
// ok is false are not drawn; ok is asked at most once for each.
func (s Sample) draw(n int, stream uint64, ok func(i int32) bool) [][]int32 {
	s = s.WithDefaults()
	rng := rand.New(rand.NewPCG(s.Seed, stream))
	order, asked := make([]int32, n), make([]int8, n) // 1 for ok, -1 for not
	for i := range order {
		order[i] = int32(i)
	}
	samples := make([][]int32, s.Repeats)
	for r := range samples {
		// A shuffle that ends when the sample is full.
		for at := 0; at < n && len(samples[r]) < s.Size; at++ {
			other := at + rng.IntN(n-at)
			order[at], order[other] = order[other], order[at]
			i := order[at]
			if asked[i] == 0 {
				if asked[i] = -1; ok(i) {
					asked[i] = 1
				}
			}
			if asked[i] > 0 {
				samples[r] = append(samples[r], i)
			}
		}
		slices.Sort(samples[r])
	}
	return samples
}

// meanDeviation are the mean of values and their standard deviation, with the
// divisor n-1; 0 for a single one.
func meanDeviation(values []float64) (mean, deviation float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	if len(values) < 2 {
		return mean, 0
	}
	for _, v := range values {
		deviation += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(deviation / float64(len(values)-1))
}
