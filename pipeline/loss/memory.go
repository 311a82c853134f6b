package loss

import (
	"fmt"
	"math"
	"slices"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// XBM is cross-batch memory (Wang et al. 2020, "Cross-Batch Memory for
// Embedding Learning"): a loss keeps the embeddings of the samples of earlier
// batches and adds, times Weight, its value of the batch's samples against
// those. Remembered embeddings are as they were then and have no gradient.
//
// Only calls of Compute with gradients are steps: they use the memory and then
// fill it. Without gradients the memory is neither used nor changed. It is
// part of the loss's state (see [Stateful]); it takes Size·dim float32, twice
// that for pairs compared both ways, and a table of batch·Size.
type XBM struct {
	// Size is the number of samples that are kept, the newest. Default:
	// 10000.
	Size int `json:"size"`
	// Start is the number of steps before the first that is remembered: until
	// then embeddings may change too fast. Default: 0.
	Start int `json:"start"`
	// Weight multiplies the memory's part of the loss, above 0. Default: 1.
	Weight float64 `json:"weight"`
}

// params are a memory's options with defaults filled in, nil for none.
func (x *XBM) params() any {
	if x == nil {
		return nil
	}
	f := x.filled()
	return map[string]any{"size": f.Size, "start": f.Start, "weight": f.Weight}
}

func (x *XBM) filled() XBM {
	f := *x
	if f.Size == 0 {
		f.Size = 10000
	}
	if f.Weight == 0 {
		f.Weight = 1
	}
	return f
}

// noMemory reports a memory of Quaterion's variant of a loss without one.
func noMemory(own bool, x *XBM) error {
	if own && x != nil {
		return fmt.Errorf("xbm: the variant %q of this loss has no memory", VariantQuaterion)
	}
	return nil
}

// memory is a ring of samples; nil remembers nothing. A sample has the
// embeddings of one object or of two, and the ids of one or, for pairs, two.
type memory struct {
	XBM
	dim, sides  int
	steps, next int
	vectors     [2][]float32
	labels      []int32 // none for pairs
	ids         [2][]int64
}

// newMemory returns the memory that x declares for embeddings of dim values,
// nil for none.
func newMemory(x *XBM, dim, sides int) (*memory, error) {
	if x == nil {
		return nil, nil
	}
	m := &memory{XBM: x.filled(), dim: dim, sides: sides}
	switch {
	case m.Size < 0 || m.Start < 0:
		return nil, fmt.Errorf("xbm: size and start are %d and %d where whole numbers from 0 are needed", m.Size, m.Start)
	case !(m.Weight > 0) || math.IsInf(m.Weight, 0):
		return nil, fmt.Errorf("xbm: weight is %v where a number above 0 is needed", m.Weight)
	}
	return m, nil
}

// rows is the number of remembered samples.
func (m *memory) rows() int {
	if m == nil {
		return 0
	}
	return len(m.vectors[0]) / m.dim
}

// side are the remembered embeddings of a side, in no certain order.
func (m *memory) side(s int) nn.Mat { return nn.Mat{Rows: m.rows(), Cols: m.dim, Data: m.vectors[s]} }

// begin counts a step and reports whether it is to be remembered.
func (m *memory) begin() bool {
	if m == nil {
		return false
	}
	m.steps++
	return m.steps > m.Start
}

// sample is what is remembered of one.
type sample struct {
	vectors [2][]float32
	label   int32
	ids     [2]int64
}

// keep remembers a sample in the place of the oldest.
func (m *memory) keep(s sample, labelled bool, known [2]bool) {
	at := m.next
	grow := m.rows() < m.Size
	for k := range m.sides {
		m.vectors[k] = put(m.vectors[k], at*m.dim, grow, s.vectors[k]...)
	}
	for k, ok := range known {
		if ok {
			m.ids[k] = put(m.ids[k], at, grow, s.ids[k])
		}
	}
	if labelled {
		m.labels = put(m.labels, at, grow, s.label)
	}
	m.next = (at + 1) % m.Size
}

// put writes values to a place of a ring, or to its end while it grows.
func put[T any](ring []T, at int, grow bool, values ...T) []T {
	if grow {
		return append(ring, values...)
	}
	copy(ring[at:], values)
	return ring
}

// fits reports ids that are there where those remembered are not, or the other
// way round.
func (m *memory) fits(ids ...[]int64) error {
	for k, v := range ids {
		if m.rows() > 0 && (v == nil) != (m.ids[k] == nil) {
			return fmt.Errorf("a batch with the ids of objects and one without cannot share a memory")
		}
	}
	return nil
}

// state is the memory as part of a loss's.
func (m *memory) state() []State {
	if m == nil {
		return nil
	}
	s := []State{{Name: "xbm.steps", Ints: []int64{int64(m.steps), int64(m.next)}}, {Name: "xbm.labels", Ints: wide(m.labels)}}
	for k, ids := range m.ids {
		s = append(s,
			State{Name: fmt.Sprintf("xbm.%d.embeddings", k), Floats: m.vectors[k]},
			State{Name: fmt.Sprintf("xbm.%d.ids", k), Ints: ids})
	}
	return s
}

func wide(v []int32) []int64 {
	out := make([]int64, len(v))
	for i, x := range v {
		out[i] = int64(x)
	}
	return out
}

// named reports a state whose arrays are not those of another.
func named(state, want []State) error {
	if len(state) != len(want) {
		return fmt.Errorf("a state of %d arrays where %d are needed", len(state), len(want))
	}
	for i, s := range state {
		if s.Name != want[i].Name {
			return fmt.Errorf("array %d of the state is %q where %q is needed", i, s.Name, want[i].Name)
		}
	}
	return nil
}

// setState takes state back; a nil memory has none.
func (m *memory) setState(state []State) error {
	if err := named(state, m.state()); err != nil || m == nil {
		return err
	}
	counters, labels, sides := state[0].Ints, state[1].Ints, state[2:]
	rows := len(sides[0].Floats) / m.dim
	if len(counters) != 2 || counters[0] < 0 || counters[1] < 0 || rows > m.Size ||
		counters[1] >= int64(m.Size) || rows < m.Size && counters[1] != int64(rows) ||
		len(labels) != 0 && len(labels) != rows {
		return fmt.Errorf("a memory of %d samples, counters %v and %d labels is impossible with the size %d", rows, counters, len(labels), m.Size)
	}
	for k := range m.ids {
		vectors, ids := sides[2*k].Floats, sides[2*k+1].Ints
		want := rows * m.dim
		if k >= m.sides {
			want = 0
		}
		if len(vectors) != want || len(ids) != 0 && len(ids) != rows {
			return fmt.Errorf("%s: %d values and %d ids of %d samples of %d values", sides[2*k].Name, len(vectors), len(ids), rows, m.dim)
		}
	}
	m.steps, m.next = int(counters[0]), int(counters[1])
	m.labels = m.labels[:0]
	for _, l := range labels {
		m.labels = append(m.labels, int32(l))
	}
	for k := range m.ids {
		m.vectors[k] = slices.Clone(sides[2*k].Floats)
		m.ids[k] = nil
		if len(sides[2*k+1].Ints) > 0 {
			m.ids[k] = slices.Clone(sides[2*k+1].Ints)
		}
	}
	return nil
}
