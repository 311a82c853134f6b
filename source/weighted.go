package source

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Weighted is an order of as many rows as there are weights, each drawn with
// replacement with the probability of its weight over the sum: rows of weight
// 0 never come, others may come several times. The draw at a position is a
// function of the seed, the epoch and the position. It takes 16 bytes a weight
// and the same time for any number of them: Walker's alias method, "An
// Efficient Method for Generating Discrete Random Variables with General
// Distributions", 1977. A weight that is negative, infinite or no number is an
// error, and so is a sum of 0 over any.
func Weighted(weights []float64, seed uint64) (Order, error) {
	sum := 0.0
	for i, v := range weights {
		if !(v >= 0) || math.IsInf(v, 1) {
			return nil, fmt.Errorf("weight %v of row %d is not a number from 0", v, i)
		}
		sum += v
	}
	if len(weights) > 0 && (sum == 0 || math.IsInf(sum, 1)) {
		return nil, errors.New("the weights are all 0, or their sum is infinite")
	}
	w := &weighted{cells: make([]aliasCell, len(weights)), seed: seed}
	for i, v := range weights {
		w.cells[i] = aliasCell{v / sum * float64(len(weights)), nobody}
	}
	w.fill()
	return w, nil
}

type weighted struct {
	cells []aliasCell
	seed  uint64
}

// aliasCell is one of as many equal parts of the probability as there are
// rows: its own row has the share own of it, or all from 1 on, another row has
// the rest.
type aliasCell struct {
	own   float64
	other int64
}

const nobody = -1 // has the rest of a cell, yet

// fill gives what rows lack for a cell of their own to rows that have more:
// with what is left of one heavy row, cells of light rows are filled until it
// is light, too, and then its own from the next heavy one. It needs no memory.
func (w *weighted) fill() {
	next := func(i int, heavy bool) int {
		for i++; i < len(w.cells) && (w.cells[i].other != nobody || w.cells[i].own > 1 != heavy); i++ {
		}
		return i
	}
	light, heavy := next(-1, false), next(-1, true)
	if heavy == len(w.cells) { // all weights are equal
		for i := range w.cells {
			w.cells[i].other = int64(i)
		}
		return
	}
	for left := w.cells[heavy].own; ; {
		if left > 1 {
			if light == len(w.cells) {
				break
			}
			w.cells[light].other = int64(heavy)
			left += w.cells[light].own - 1
			light = next(light, false)
			continue
		}
		following := next(heavy, true)
		if following == len(w.cells) {
			break
		}
		given := left - 1
		w.cells[heavy] = aliasCell{left, int64(following)}
		heavy, left = following, w.cells[following].own+given
	}
	// What rounding has left over belongs to the last heavy row.
	for ; light < len(w.cells); light = next(light, false) {
		w.cells[light].other = int64(heavy)
	}
}

func (w *weighted) Len() int64 { return int64(len(w.cells)) }

func (w *weighted) Epoch(epoch int) Fill {
	state := epochState(w.seed, epoch)
	return func(dst []int64, first int64) {
		for i := range dst {
			u := mix(state + uint64(first+int64(i)+1)*golden)
			at, within := bits.Mul64(u, uint64(len(w.cells)))
			if c := &w.cells[at]; float64(within>>11)*0x1p-53 < c.own {
				dst[i] = int64(at)
			} else {
				dst[i] = c.other
			}
		}
	}
}
