package source_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

func order(n int64, seed uint64, epoch int) []int64 {
	p := source.NewPermutation(n, seed, epoch)
	rows := make([]int64, max(n, 0))
	p.Fill(rows, 0)
	return rows
}

// The order is part of what makes a run reproducible: these never change.
func TestPermutationIsAsEver(t *testing.T) {
	tests := []struct {
		n     int64
		seed  uint64
		epoch int
		want  []int64
	}{
		{1, 0, 0, []int64{0}},
		{10, 0, 0, []int64{4, 8, 5, 7, 3, 1, 2, 9, 0, 6}},
		{10, 0, 1, []int64{0, 5, 3, 8, 1, 2, 6, 4, 7, 9}},
		{10, 42, 0, []int64{7, 0, 6, 5, 2, 3, 1, 4, 8, 9}},
		{1000, 42, 0, []int64{406, 746, 206, 73, 660, 88}},
		{1 << 20, 42, 3, []int64{905522, 624687, 448471, 263583, 332005}},
		{1 << 40, math.MaxUint64, 1, []int64{810617276158, 1059982545625, 451409356503}},
		{math.MaxInt64, 7, -1, []int64{4812898670358191411, 8467695079783457342, 3249468326115145311}},
	}
	for _, test := range tests {
		got := make([]int64, len(test.want))
		p := source.NewPermutation(test.n, test.seed, test.epoch)
		p.Fill(got, 0)
		if !slices.Equal(got, test.want) {
			t.Errorf("n %d, seed %d, epoch %d: %#v", test.n, test.seed, test.epoch, got)
		}
	}
}

func TestPermutationIsABijection(t *testing.T) {
	sizes := []int64{4095, 4096, 4097, 16383, 16384, 16385, 1 << 18, 1<<18 + 1, 1_000_003}
	for n := range int64(2001) {
		sizes = append(sizes, n)
	}
	for _, n := range sizes {
		rows := order(n, uint64(n)*3, 5)
		seen := make([]bool, n)
		for _, row := range rows {
			if row < 0 || row >= n || seen[row] {
				t.Fatalf("n %d: row %d is there twice or not a row", n, row)
			}
			seen[row] = true
		}
	}
	p := source.NewPermutation(5, 1, 1)
	if p.At(-1) != -1 || p.At(5) != 5 {
		t.Errorf("positions outside go to %d and %d", p.At(-1), p.At(5))
	}
	if none := source.NewPermutation(-3, 1, 1); none.At(0) != 0 {
		t.Error("an order of fewer than no rows moves one")
	}
}

// chiSquare returns by how many standard deviations the counts are off from
// being equal: the statistic has mean k-1 and variance 2(k-1).
func chiSquare(counts []int, total int) float64 {
	expected := float64(total) / float64(len(counts))
	var sum float64
	for _, c := range counts {
		sum += (float64(c) - expected) * (float64(c) - expected) / expected
	}
	k := float64(len(counts) - 1)
	return (sum - k) / math.Sqrt(2*k)
}

// tooFar is how many standard deviations are a defect. The seeds are fixed, so
// that a test that passes always does.
const tooFar = 4.5

func TestPermutationsOfFewRowsAreUniform(t *testing.T) {
	t.Parallel()
	for n := int64(2); n <= 8; n++ {
		all := 1
		for i := 2; i <= int(n); i++ {
			all *= i
		}
		// So many that one which chance misses is rare: all*exp(-16).
		epochs := max(20_000, 16*all)
		counts := make(map[uint64]int, all)
		for epoch := range epochs {
			p := source.NewPermutation(n, 42, epoch)
			key := uint64(0)
			for i := range n {
				key = key<<3 | uint64(p.At(i))
			}
			counts[key]++
		}
		if len(counts) != all {
			t.Errorf("n %d: %d of %d permutations in %d epochs", n, len(counts), all, epochs)
			continue
		}
		list := make([]int, 0, all)
		for _, c := range counts {
			list = append(list, c)
		}
		if off := chiSquare(list, epochs); off > tooFar {
			t.Errorf("n %d: permutations are off from uniform by %.1f standard deviations", n, off)
		}
	}
}

// Where an element goes, where a pair goes, how many stay, which come in
// order and of which sign the permutation is: all as by chance.
func TestPermutationsAreUniform(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{9, 16, 17, 40, 64, 100, 256, 257, 1000} {
		const epochs = 3000
		k := min(n, 40) // positions are counted in k bins
		bin := func(row int64) int64 { return row * k / n }
		size := make([]int, k)
		for row := range n {
			size[bin(row)]++
		}
		first, last := make([]int, n), make([]int, n)
		pairs := make([]int, k*k)
		fixed, ascents, even := 0, 0, 0
		for epoch := range epochs {
			rows := order(n, 7, epoch)
			first[rows[0]]++
			last[rows[n-1]]++
			pairs[bin(rows[1])*k+bin(rows[n/2])]++
			for i, row := range rows {
				if int64(i) == row {
					fixed++
				}
				if i > 0 && rows[i-1] < row {
					ascents++
				}
			}
			if n <= 256 && evenPermutation(rows) {
				even++
			}
		}
		if n <= 1000 {
			for name, counts := range map[string][]int{"first": first, "last": last} {
				if off := chiSquare(counts, epochs); math.Abs(off) > tooFar {
					t.Errorf("n %d: the %s row is off by %.1f", n, name, off)
				}
			}
		}
		// Expected counts of pairs by the bins' sizes, without replacement.
		var sum float64
		for a := range k {
			for b := range k {
				there := float64(size[b])
				if a == b {
					there--
				}
				if expected := epochs * float64(size[a]) * there / float64(n*(n-1)); expected > 0 {
					d := float64(pairs[a*k+b]) - expected
					sum += d * d / expected
				}
			}
		}
		free := float64(k*k - 1)
		if n <= 40 {
			free -= float64(k) // a row is not in two places
		}
		if off := (sum - free) / math.Sqrt(2*free); math.Abs(off) > tooFar {
			t.Errorf("n %d: pairs of rows are off by %.1f", n, off)
		}
		// A permutation has 1 fixed point on average, with variance 1.
		if off := (float64(fixed) - epochs) / math.Sqrt(epochs); math.Abs(off) > tooFar {
			t.Errorf("n %d: %d fixed points in %d epochs", n, fixed, epochs)
		}
		// It has (n-1)/2 ascents with variance (n+1)/12.
		mean, dev := float64(n-1)/2*epochs, math.Sqrt(float64(n+1)/12*epochs)
		if off := (float64(ascents) - mean) / dev; math.Abs(off) > tooFar {
			t.Errorf("n %d: ascents are off by %.1f", n, off)
		}
		if off := (float64(even) - epochs/2) / math.Sqrt(epochs/4); n <= 256 && math.Abs(off) > tooFar {
			t.Errorf("n %d: %d of %d permutations are even", n, even, epochs)
		}
	}
}

func evenPermutation(rows []int64) bool {
	seen := make([]bool, len(rows))
	even := true
	for i := range rows {
		for j := int64(i); !seen[j]; j = rows[j] {
			seen[j] = true
			if rows[j] != int64(i) {
				even = !even
			}
		}
	}
	return even
}

// Orders of neighbouring seeds and epochs have nothing in common.
func TestPermutationsDiffer(t *testing.T) {
	const n = 10_000
	base := order(n, 42, 7)
	for name, other := range map[string][]int64{
		"epoch":      order(n, 42, 8),
		"seed":       order(n, 43, 7),
		"swapped":    order(n, 7, 42),
		"one more":   order(n+1, 42, 7)[:n],
		"next epoch": order(n, 42, 6),
	} {
		same := 0
		for i := range base {
			if base[i] == other[i] {
				same++
			}
		}
		if same > 8 { // one is expected
			t.Errorf("%s: %d rows at the same position", name, same)
		}
	}
}

func BenchmarkPermutation(b *testing.B) {
	for _, n := range []int64{1 << 20, 1<<20 + 1, 10_000_000, 1 << 30} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := source.NewPermutation(n, 42, 1)
			rows := make([]int64, 1024)
			b.SetBytes(int64(len(rows))) // MB/s are million indices a second
			first := int64(0)
			for b.Loop() {
				p.Fill(rows, first)
				first = (first + 1024) % (n - 1024)
			}
		})
	}
}

// Of orders too long to be written out: where single positions and pairs of
// neighbours go, how often a later position has the smaller row, and how many
// rows stay, over many seeds.
func TestPermutationsOfManyRowsAreUniform(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{1_000_003, 1 << 20, 1<<32 + 1, 1 << 50} {
		const seeds, bins, span = 4000, 32, 64
		bin := func(row int64) int { return int(float64(row) / float64(n) * bins) }
		single, neighbours, far := make([]int, bins), make([]int, bins*bins), make([]int, bins*bins)
		inversions, pairs, near := 0, 0, 0
		rows := make([]int64, span)
		for seed := range uint64(seeds) {
			p := source.NewPermutation(n, seed, 3)
			first := int64(seed) * (n / seeds)
			p.Fill(rows, first)
			for _, row := range rows {
				single[bin(row)]++
			}
			neighbours[bin(rows[0])*bins+bin(rows[1])]++
			far[bin(rows[2])*bins+bin(p.At((first+n/2)%n))]++
			for i := range rows {
				for _, later := range rows[i+1:] {
					if pairs++; later < rows[i] {
						inversions++
					}
				}
			}
			for i := 1; i < span; i++ { // rows that stay beside one another
				if d := rows[i] - rows[i-1]; d > -n/1000 && d < n/1000 {
					near++
				}
			}
		}
		for name, off := range map[string]float64{
			"positions":  chiSquare(single, seeds*span),
			"neighbours": chiSquare(neighbours, seeds),
			"far pairs":  chiSquare(far, seeds),
		} {
			if math.Abs(off) > tooFar {
				t.Errorf("n %d: %s are off by %.1f", n, name, off)
			}
		}
		// Inversions of k places have the mean k(k-1)/4 and the variance
		// k(k-1)(2k+5)/72.
		dev := math.Sqrt(float64(seeds) * span * (span - 1) * (2*span + 5) / 72)
		if off := (float64(inversions) - float64(pairs)/2) / dev; math.Abs(off) > tooFar {
			t.Errorf("n %d: inversions are off by %.1f", n, off)
		}
		mean := float64(seeds*(span-1)) * 2 / 1000
		if off := (float64(near) - mean) / math.Sqrt(mean); math.Abs(off) > tooFar {
			t.Errorf("n %d: %d neighbours stay near, %.0f are due", n, near, mean)
		}
	}
	fixed := 0
	const epochs, n = 40, 100_003
	for epoch := range epochs {
		for i, row := range order(n, 11, epoch) {
			if row == int64(i) {
				fixed++
			}
		}
	}
	if off := (float64(fixed) - epochs) / math.Sqrt(epochs); math.Abs(off) > tooFar {
		t.Errorf("n %d: %d fixed points in %d epochs", n, fixed, epochs)
	}
}
