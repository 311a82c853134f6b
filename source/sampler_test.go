package source_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/source"
)

// made fails a test where a sampler or an order is refused.
func made[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// manyGroups numbers the groups of rows: of sizes from 1 to 9, in no order.
func manyGroups(n int) []int32 {
	rng := rand.New(rand.NewPCG(1, 2))
	var out []int32
	for g := int32(0); len(out) < n; g++ {
		for range 1 + g%9 {
			out = append(out, g)
		}
	}
	out = out[:n]
	rng.Shuffle(n, func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// pairs numbers the objects of both sides of n rows: of few, some of them are
// of many rows.
func pairs(n, objects int) [][]int64 {
	rng := rand.New(rand.NewPCG(3, uint64(objects)))
	out := [][]int64{make([]int64, n), make([]int64, n)}
	for i := range n {
		out[0][i] = int64(rng.IntN(objects))
		out[1][i] = int64(float64(objects) * rng.Float64() * rng.Float64())
	}
	return out
}

const samplerRows = 300

// samplers are one of each kind over a table of samplerRows rows.
func samplers(t testing.TB) map[string]source.Sampler {
	t.Helper()
	sampler, order := made[source.Sampler](t), made[source.Order](t)
	weights := make([]float64, samplerRows)
	for i := range weights {
		weights[i] = float64(i % 7)
	}
	some := make([]int64, 0, samplerRows)
	for i := int64(0); i < samplerRows; i += 3 {
		some = append(some, i)
	}
	parts := []source.Part{{Rows: 200, Weight: 1}, {Rows: 90, Weight: 2}, {Rows: 10, Weight: 0.5}}
	of := func(o source.Order) source.Sampler { return sampler(source.Batches(o, 16, false)) }
	return map[string]source.Sampler{
		"shuffled":        of(source.Shuffled(samplerRows, 1)),
		"sequential":      of(source.Sequential(samplerRows)),
		"no short batch":  sampler(source.Batches(source.Shuffled(samplerRows, 1), 16, true)),
		"selected":        of(source.Selected(source.Shuffled(100, 1), some)),
		"weighted":        of(order(source.Weighted(weights, 1))),
		"mixed":           of(order(source.Mixed(parts, 1))),
		"distinct":        sampler(source.Distinct(source.Shuffled(samplerRows, 1), pairs(samplerRows, 200), 16, false)),
		"distinct full":   sampler(source.Distinct(source.Shuffled(samplerRows, 1), pairs(samplerRows, 200), 16, true)),
		"group balanced":  sampler(source.GroupBalanced(manyGroups(samplerRows), nil, source.GroupOptions{Groups: 4, Samples: 4, Seed: 1})),
		"groups selected": sampler(source.GroupBalanced(manyGroups(samplerRows), some, source.GroupOptions{Groups: 8, Samples: 2, Seed: 1})),
	}
}

// drawn returns all batches of an epoch.
func drawn(s source.Sampler, epoch int) (out [][]int64) {
	draw := s.Epoch(epoch)
	for n := int64(0); ; n++ {
		rows := draw(nil, n)
		if len(rows) == 0 {
			return out
		}
		out = append(out, rows)
	}
}

// TestSamplersAreFunctions: a batch depends on the epoch and its number alone,
// not on which batches were asked for before, and there are as many as told.
func TestSamplersAreFunctions(t *testing.T) {
	for name, s := range samplers(t) {
		for epoch := range 4 {
			all := drawn(s, epoch)
			if n := s.Batches(epoch); n != int64(len(all)) || n == 0 {
				t.Errorf("%s, epoch %d: %d batches, not %d", name, epoch, len(all), n)
			}
			draw := s.Epoch(epoch)
			for _, n := range rand.New(rand.NewPCG(1, 1)).Perm(len(all)) {
				if got := draw([]int64{-1}, int64(n)); !slices.Equal(got, append([]int64{-1}, all[n]...)) {
					t.Fatalf("%s, epoch %d, batch %d: %v, want %v", name, epoch, n, got, all[n])
				}
			}
			for _, n := range []int64{-1, math.MinInt64, int64(len(all)), math.MaxInt64} {
				if got := draw(nil, n); len(got) > 0 {
					t.Errorf("%s, epoch %d has a batch %d", name, epoch, n)
				}
			}
			if again := drawn(s, epoch+1); slices.EqualFunc(all, again, slices.Equal) != (name == "sequential") {
				t.Errorf("%s: epochs %d and %d", name, epoch, epoch+1)
			}
		}
		if draw := s.Epoch(-1); len(draw(nil, 0)) == 0 {
			t.Errorf("%s: an epoch before the first is empty", name)
		}
	}
}

// What is drawn is part of what makes a run reproducible: these never change.
func TestSamplersAreAsEver(t *testing.T) {
	for name, want := range map[string][]int64{
		"shuffled":        {135, 32, 273, 151, 196, 231, 15, 139},
		"selected":        {261, 210, 237, 255, 81, 18, 177, 57},
		"weighted":        {18, 30, 160, 222, 143, 34, 46, 283},
		"mixed":           {208, 36, 290, 282, 232, 262, 28, 247},
		"distinct":        {191, 249, 112, 32, 231, 139, 121, 140},
		"group balanced":  {73, 217, 73, 217, 224, 208, 71, 288},
		"groups selected": {15, 15, 132, 132, 240, 255, 285, 285},
	} {
		if got := samplers(t)[name].Epoch(3)(nil, 5)[:8]; !slices.Equal(got, want) {
			t.Errorf("%q: {%s},", name, fmt.Sprint(got))
		}
	}
}

// TestSamplersDoNotAllocate: once there is room for a batch.
func TestSamplersDoNotAllocate(t *testing.T) {
	for name, s := range samplers(t) {
		draw, batch, n := s.Epoch(1), int64(0), s.Batches(1)
		rows := draw(nil, 0)
		if allocs := testing.AllocsPerRun(5, func() {
			batch = (batch + 1) % n
			rows = draw(rows[:0], batch)
		}); allocs > 0 {
			t.Errorf("%s: %.0f allocations a batch", name, allocs)
		}
	}
}

// TestSamplersResume: an epoch that is left and gone on with, by other numbers
// of ranks and workers, has the batches of one that is not.
func TestSamplersResume(t *testing.T) {
	tab := table(t, samplerRows)
	for name, s := range samplers(t) {
		want := drawn(s, 2)
		total := int64(len(want))
		part := func(from, to int64, world int) [][]int64 {
			out := make([][]int64, max(to-from, 0))
			for rank := range world {
				r, err := source.Replay(tab, source.ReplayOptions{Sampler: s, Rank: rank, World: world, Workers: world - 2})
				if err != nil {
					t.Fatal(err)
				}
				at := int64(rank)
				for record, err := range r.EpochFrom(t.Context(), 2, from) {
					if err != nil {
						t.Fatal(err)
					}
					if at < to-from {
						out[at] = slices.Clone(record.Column(0).(*array.Int64).Int64Values())
					}
					at += int64(world)
				}
				if at < total-from || at >= max(total-from, int64(rank))+int64(world) {
					t.Errorf("%s: rank %d of %d ends at %d, %d are left", name, rank, world, at, total-from)
				}
			}
			return out
		}
		worlds := []int{1, 2, 4, 3}
		for i, first := range worlds {
			for cut := range total + 1 {
				got := slices.Concat(part(0, cut, first), part(cut, total, worlds[(i+1)%4]))
				if !slices.EqualFunc(got, want, slices.Equal) {
					t.Fatalf("%s, %d ranks to %d: %v, want %v", name, first, cut, got, want)
				}
			}
		}
		// Start counts through the epochs, which may have different lengths.
		r, err := source.Replay(tab, source.ReplayOptions{Sampler: s, Start: s.Batches(0) + s.Batches(1) + 3})
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		for epoch := range 3 {
			for _, err := range r.Epoch(t.Context(), epoch) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
		}
		if n != total-3 {
			t.Errorf("%s: %d batches after the start, want %d", name, n, total-3)
		}
	}
}

func TestSamplersRefuse(t *testing.T) {
	tests := []struct {
		name string
		err  func() error
	}{
		{"no rows a batch", func() error { _, err := source.Batches(source.Sequential(3), 0, false); return err }},
		{"no rows a distinct batch", func() error { _, err := source.Distinct(source.Sequential(3), nil, -1, false); return err }},
		{"a negative weight", func() error { _, err := source.Weighted([]float64{1, -1}, 0); return err }},
		{"no number", func() error { _, err := source.Weighted([]float64{1, math.NaN()}, 0); return err }},
		{"an infinite weight", func() error { _, err := source.Weighted([]float64{1, math.Inf(1)}, 0); return err }},
		{"an infinite sum", func() error { _, err := source.Weighted([]float64{math.MaxFloat64, math.MaxFloat64}, 0); return err }},
		{"no weight", func() error { _, err := source.Weighted([]float64{0, 0}, 0); return err }},
		{"a part of no weight", func() error { _, err := source.Mixed([]source.Part{{Rows: 3}}, 0); return err }},
		{"a part of negative weight", func() error { _, err := source.Mixed([]source.Part{{Rows: 3, Weight: -1}}, 0); return err }},
		{"a part without rows", func() error { _, err := source.Mixed([]source.Part{{Rows: 3, Weight: 1}, {Weight: 1}}, 0); return err }},
		{"no groups", func() error { _, err := source.GroupBalanced(nil, nil, source.GroupOptions{Samples: 1}); return err }},
		{"no samples", func() error { _, err := source.GroupBalanced(nil, nil, source.GroupOptions{Groups: 1}); return err }},
		{"a batch too large", func() error {
			_, err := source.GroupBalanced([]int32{0}, nil, source.GroupOptions{Groups: 1, Samples: math.MaxInt})
			return err
		}},
		{"a negative group", func() error {
			_, err := source.GroupBalanced([]int32{0, -1}, nil, source.GroupOptions{Groups: 1, Samples: 1})
			return err
		}},
		{"a row of no group", func() error {
			_, err := source.GroupBalanced([]int32{0, 1}, []int64{0, 2}, source.GroupOptions{Groups: 1, Samples: 1})
			return err
		}},
		{"too few groups", func() error {
			_, err := source.GroupBalanced([]int32{0, 1, 5}, []int64{0, 2}, source.GroupOptions{Groups: 3, Samples: 1})
			return err
		}},
	}
	for _, test := range tests {
		if test.err() == nil {
			t.Errorf("%s is accepted", test.name)
		}
	}
	for name, o := range map[string]source.Order{
		"sequential": source.Sequential(-1), "shuffled": source.Shuffled(-1, 0),
		"weighted": made[source.Order](t)(source.Weighted(nil, 0)), "mixed": made[source.Order](t)(source.Mixed(nil, 0)),
	} {
		plain := made[source.Sampler](t)(source.Batches(o, 3, false))
		distinct := made[source.Sampler](t)(source.Distinct(o, nil, 3, false))
		if o.Len() != 0 || len(drawn(plain, 0)) != 0 || len(drawn(distinct, 0)) != 0 || distinct.Batches(0) != 0 {
			t.Errorf("%s has rows of none", name)
		}
	}
}

// distinctly is what Distinct does, put as plainly as can be.
func distinctly(order []int64, objects [][]int64, size int) (out [][]int64) {
	var waiting []int64
	for len(order)+len(waiting) > 0 {
		var batch, still []int64
		used := map[int64]bool{}
		take := func(row int64) bool {
			for _, side := range objects {
				if used[side[row]] {
					return false
				}
			}
			for _, side := range objects {
				used[side[row]] = true
			}
			batch = append(batch, row)
			return true
		}
		for _, row := range waiting {
			if len(batch) == size || !take(row) {
				still = append(still, row)
			}
		}
		for waiting = still; len(order) > 0 && len(batch) < size; order = order[1:] {
			if take(order[0]) {
				continue
			}
			if size < 1000 && len(waiting) == 16*size {
				break
			}
			waiting = append(waiting, order[0])
		}
		out = append(out, batch)
	}
	return out
}

// TestDistinct: no object comes twice in a batch, and every row once in an
// epoch, whether few rows are equal or most.
func TestDistinct(t *testing.T) {
	const n = 700
	same := make([]int64, n)
	unlike := make([]int64, n)
	for i := range unlike {
		unlike[i] = int64(i) * 1_000_003
	}
	for name, objects := range map[string][][]int64{
		"pairs of many objects": pairs(n, 2000), "pairs of some": pairs(n, 200), "pairs of few": pairs(n, 20),
		"groups": {pairs(n, 100)[0]}, "one object": {same}, "both sides equal": {unlike, unlike},
		"one on a side": {same, unlike}, "all differ": {unlike}, "nothing": nil,
	} {
		for _, size := range []int{1, 2, 7, 64, 1000, math.MaxInt} {
			s := made[source.Sampler](t)(source.Distinct(source.Shuffled(n, 9), objects, size, false))
			got := drawn(s, 4)
			if want := distinctly(order(n, 9, 4), objects, size); !slices.EqualFunc(got, want, slices.Equal) {
				t.Fatalf("%s, batches of %d: %d of them, want %d", name, size, len(got), len(want))
			}
			rows := slices.Sorted(slices.Values(slices.Concat(got...)))
			if !slices.Equal(rows, upTo(n)) {
				t.Errorf("%s, batches of %d: a row is missing or there twice", name, size)
			}
			full := made[source.Sampler](t)(source.Distinct(source.Shuffled(n, 9), objects, size, true))
			want := slices.DeleteFunc(slices.Clone(got), func(rows []int64) bool { return len(rows) < size })
			if got := drawn(full, 4); !slices.EqualFunc(got, want, slices.Equal) {
				t.Errorf("%s, full batches of %d: %d of them, want %d", name, size, len(got), len(want))
			}
		}
	}
	// Where few rows are equal, only the last batches are short.
	s := made[source.Sampler](t)(source.Distinct(source.Shuffled(n, 9), pairs(n, 2000), 16, false))
	for i, rows := range drawn(s, 0) {
		if len(rows) < 16 && i < n/16 {
			t.Errorf("batch %d has %d rows", i, len(rows))
		}
	}
}

func upTo(n int64) []int64 {
	rows := make([]int64, n)
	source.Sequential(n).Epoch(0)(rows, 0)
	return rows
}

// TestGroupBalanced: a batch has so many rows of each of so many groups, and
// over time groups come alike, and so do the rows of one.
func TestGroupBalanced(t *testing.T) {
	groups := manyGroups(500)
	size := map[int32]int{}
	for _, g := range groups {
		size[g]++
	}
	for _, o := range []source.GroupOptions{{Groups: 1, Samples: 1}, {Groups: 7, Samples: 3, Seed: 5}, {Groups: len(size), Samples: 2}, {Groups: 40, Samples: 12}} {
		s := made[source.Sampler](t)(source.GroupBalanced(groups, nil, o))
		if want := max(500/(o.Groups*o.Samples), 1); s.Batches(0) != int64(want) {
			t.Errorf("%+v: %d batches an epoch, want %d", o, s.Batches(0), want)
		}
		visits, rows := map[int32]int{}, map[int64]int{}
		batches := 0
		for epoch := 0; batches < 60*len(size)/o.Groups; epoch++ {
			for _, batch := range drawn(s, epoch) {
				batches++
				if len(batch) != o.Groups*o.Samples {
					t.Fatalf("%+v: a batch of %d", o, len(batch))
				}
				seen := map[int32]bool{}
				for part := range slices.Chunk(batch, o.Samples) {
					g := groups[part[0]]
					if seen[g] {
						t.Fatalf("%+v: a group is there twice", o)
					}
					seen[g] = true
					visits[g]++
					times := map[int64]int{}
					for _, row := range part {
						if groups[row] != g {
							t.Fatalf("%+v: groups are mixed", o)
						}
						times[row]++
						rows[row]++
					}
					for _, k := range times {
						if least := o.Samples / size[g]; k < least || k > max(least+1, 1) || o.Samples <= size[g] && k > 1 {
							t.Fatalf("%+v: a row of a group of %d comes %d times", o, size[g], k)
						}
					}
				}
			}
		}
		// Each permutation of the groups leaves out fewer than a batch of them.
		due := batches * o.Groups / len(size)
		for g, n := range size {
			if off := math.Abs(float64(visits[g] - due)); off > 2+4*math.Sqrt(float64(due)*float64(o.Groups-1)/float64(len(size))) {
				t.Errorf("%+v: a group came %d times, %d are due", o, visits[g], due)
			}
			least, most := math.MaxInt, 0
			for row, of := range groups {
				if of == g {
					least, most = min(least, rows[int64(row)]), max(most, rows[int64(row)])
				}
			}
			if due := float64(visits[g]*o.Samples) / float64(n); float64(least) < 0.5*due-2 || float64(most) > 1.5*due+2 {
				t.Errorf("%+v: rows of a group of %d came %d to %d times, %.0f are due", o, n, least, most, due)
			}
		}
	}
}

// TestGroupSamplesAreUniform: which rows of a group come together is by chance.
func TestGroupSamplesAreUniform(t *testing.T) {
	for _, n := range []int{5, 64, 65} {
		s := made[source.Sampler](t)(source.GroupBalanced(make([]int32, n), nil, source.GroupOptions{Groups: 1, Samples: 2, Seed: 8}))
		const epochs = 20_000
		counts := make([]int, n*(n-1))
		for epoch := range epochs {
			rows := s.Epoch(epoch)(nil, 0) // the first of a permutation
			if rows[1] > rows[0] {
				rows[1]--
			}
			counts[rows[0]*int64(n-1)+rows[1]]++
		}
		if off := chiSquare(counts, epochs); math.Abs(off) > tooFar {
			t.Errorf("pairs of a group of %d are off by %.1f", n, off)
		}
	}
}

// TestWeighted: rows are drawn by their weights, independently of one another.
func TestWeighted(t *testing.T) {
	skewed, equal, heavy := make([]float64, 200), make([]float64, 70), make([]float64, 300)
	for i := range skewed {
		skewed[i] = 1 / float64(1+i%50)
	}
	for i := range equal {
		equal[i] = 0.1
	}
	for i := range heavy {
		heavy[i] = float64(i % 2)
	}
	heavy[299] = 1000
	for name, weights := range map[string][]float64{
		"some": {0, 1, 2, 0, 3, 4, 0}, "one": {0, 0, 7}, "skewed": skewed, "equal": equal, "one heavy": heavy,
	} {
		o := made[source.Order](t)(source.Weighted(weights, 42))
		n := len(weights)
		epochs := 2_000_000 / n
		singles, pairs := make([]int, n), make([]int, n*n)
		total := 0.0
		for _, w := range weights {
			total += w
		}
		rows := make([]int64, n)
		for epoch := range epochs {
			o.Epoch(epoch)(rows, 0)
			for _, row := range rows {
				singles[row]++
			}
			pairs[rows[0]*int64(n)+rows[n-1]]++
		}
		for what, counts := range map[string][]int{"rows": singles, "pairs": pairs[:min(n*n, 49)]} {
			sum, free := 0.0, -1.0
			for k, got := range counts {
				expected := weights[k%n] / total * float64(epochs*n)
				if what == "pairs" {
					expected = weights[k/n] * weights[k%n] / total / total * float64(epochs)
				}
				switch {
				case expected == 0 && got > 0:
					t.Errorf("%s: what has no weight came %d times", name, got)
				case expected > 0:
					sum += (float64(got) - expected) * (float64(got) - expected) / expected
					free++
				}
			}
			if off := (sum - free) / math.Sqrt(2*max(free, 1)); (what == "rows" || n < 8) && math.Abs(off) > tooFar {
				t.Errorf("%s: %s are off by %.1f", name, what, off)
			}
		}
	}
}

// TestMixed: an epoch has as many rows of each part as its weight gives, and a
// part's rows all come before one comes again, from epoch to epoch.
func TestMixed(t *testing.T) {
	for _, parts := range [][]source.Part{
		{{Rows: 1000, Weight: 3}, {Rows: 300, Weight: 1}},
		{{Rows: 1000, Weight: 1}, {Rows: 7, Weight: 1}, {Rows: 100, Weight: 0}, {Rows: 0, Weight: 0}, {Rows: 50, Weight: 0.001}},
		{{Rows: 10, Weight: 1}, {Rows: 10, Weight: 1}, {Rows: 12, Weight: 1}},
		{{Rows: 5, Weight: 1}},
	} {
		o := made[source.Order](t)(source.Mixed(parts, 3))
		total, sum := int64(0), 0.0
		for _, p := range parts {
			total += p.Rows
			sum += p.Weight
		}
		seen := make([]int64, total)
		var early int
		for epoch := range 8 {
			rows := make([]int64, o.Len())
			o.Epoch(epoch)(rows, 0)
			if int64(len(rows)) != total {
				t.Fatalf("%v: %d rows an epoch", parts, len(rows))
			}
			counts := make([]int64, len(parts))
			for at, row := range rows {
				seen[row]++
				first := int64(0)
				for i, p := range parts {
					if row >= first && row < first+p.Rows {
						counts[i]++
						if i == 0 && at < len(rows)/2 {
							early++
						}
					}
					first += p.Rows
				}
			}
			first := int64(0)
			for i, p := range parts {
				if exact := p.Weight / sum * float64(total); math.Abs(float64(counts[i])-exact) >= 1 {
					t.Errorf("%v: %d rows of part %d, want %.2f", parts, counts[i], i, exact)
				}
				if mine := seen[first : first+p.Rows]; p.Rows > 0 && slices.Max(mine)-slices.Min(mine) > 1 {
					t.Errorf("%v, epoch %d: rows of part %d came %d to %d times", parts, epoch, i, slices.Min(mine), slices.Max(mine))
				}
				first += p.Rows
			}
		}
		n := parts[0].Weight / sum * float64(total) * 8
		if off := (float64(early) - n/2) / math.Sqrt(n/4); len(parts) == 2 && math.Abs(off) > tooFar {
			t.Errorf("%v: the first half of the epochs has %d of the first part's %.0f", parts, early, n)
		}
	}
}

func BenchmarkSampler(b *testing.B) {
	const n, size = 1 << 20, 256
	sampler := made[source.Sampler](b)
	weights := make([]float64, n)
	groups := make([]int32, n)
	objects := pairs(n, n)
	for i := range weights {
		weights[i], groups[i] = 1/float64(1+i%10), int32(i%50_000)
	}
	for name, s := range map[string]source.Sampler{
		"shuffled":       sampler(source.Batches(source.Shuffled(n, 1), size, false)),
		"weighted":       sampler(source.Batches(made[source.Order](b)(source.Weighted(weights, 1)), size, false)),
		"mixed":          sampler(source.Batches(made[source.Order](b)(source.Mixed([]source.Part{{Rows: n / 2, Weight: 1}, {Rows: n / 2, Weight: 2}}, 1)), size, false)),
		"distinct":       sampler(source.Distinct(source.Shuffled(n, 1), objects, size, false)),
		"group balanced": sampler(source.GroupBalanced(groups, nil, source.GroupOptions{Groups: 64, Samples: 4})),
	} {
		b.Run(name, func(b *testing.B) {
			draw, batch := s.Epoch(0), int64(0)
			rows := draw(nil, 0)
			b.ReportAllocs()
			b.SetBytes(size) // MB/s are million rows a second
			for b.Loop() {
				if batch++; batch >= n/size/2 {
					draw, batch = s.Epoch(0), 0
				}
				rows = draw(rows[:0], batch)
			}
		})
	}
}
