package loss

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// Sum declares the weighted sum of several losses of one kind of samples:
//
//	{type: sum, losses: [{type: softmax}, {type: center, weight: 0.01}]}
//
// The names of their parameters and of their state begin with their place in
// the list, from 0: "1.centers".
type Sum struct {
	// Losses are the losses, one at least.
	Losses []Weighted `json:"losses"`
}

// Weighted is a loss with its weight.
type Weighted struct {
	// Weight multiplies the loss, above 0. Default: 1.
	Weight float64
	// Loss is the loss.
	Loss Config
}

// UnmarshalJSON reads a loss with its options, type and weight side by side.
func (w *Weighted) UnmarshalJSON(data []byte) (err error) {
	w.Loss, err = parseFlat(data, map[string]any{"weight": &w.Weight})
	return err
}

// Type is "sum".
func (Sum) Type() string { return "sum" }

// Kind is the kind of the first loss, [Pairs] without one.
func (c Sum) Kind() Kind {
	for _, l := range c.Losses {
		if l.Loss != nil {
			return l.Loss.Kind()
		}
	}
	return Pairs
}

// Params is losses.
func (c Sum) Params() map[string]any {
	list := []any{}
	for _, l := range c.Losses {
		if l.Loss != nil {
			list = append(list, flat(l.Loss, map[string]any{"weight": or(l.Weight, 1)}))
		}
	}
	return map[string]any{"losses": list}
}

// New returns the loss. Its losses draw their parameters from rng in order.
func (c Sum) New(dim, classes int, rng *rand.Rand) (Loss, error) {
	if len(c.Losses) == 0 {
		return nil, errors.New("losses: a sum needs one loss at least")
	}
	s := &sum{dim: dim}
	for i, l := range c.Losses {
		if l.Loss == nil {
			return nil, fmt.Errorf("losses: %d is missing", i)
		}
		w := or(l.Weight, 1)
		if err := above0("weight", w); err != nil {
			return nil, fmt.Errorf("loss %d, %s: %w", i, l.Loss.Type(), err)
		}
		if k := l.Loss.Kind(); k != c.Kind() {
			return nil, fmt.Errorf("loss %d, %s, takes %v and those before it %v", i, l.Loss.Type(), k, c.Kind())
		}
		inner, err := l.Loss.New(dim, classes, rng)
		if err != nil {
			return nil, fmt.Errorf("loss %d, %s: %w", i, l.Loss.Type(), err)
		}
		s.parts = append(s.parts, part{name: strconv.Itoa(i), loss: inner, weight: w})
	}
	return s, nil
}

type sum struct {
	parts
	dim   int
	total total
}

func (s *sum) Compute(b *Batch, grad bool) (Result, error) {
	var value float64
	for i := range s.parts {
		p := &s.parts[i]
		r, err := p.compute(b, grad)
		if err != nil {
			return Result{}, err
		}
		value += p.weight * r.Value
		if !grad {
			continue
		}
		if i == 0 { // after a loss that has checked the batch
			s.total.begin(b, s.dim)
		}
		s.total.add(p.weight, r)
	}
	if !grad {
		return Result{Value: value}, nil
	}
	return s.total.result(value), nil
}
