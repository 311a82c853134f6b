package loss

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// flat is a nested loss as its parameters are written: type, its options and
// what else the outer loss has to say of it, side by side.
func flat(c Config, more map[string]any) map[string]any {
	out := map[string]any{"type": c.Type()}
	maps.Copy(out, c.Params())
	maps.Copy(out, more)
	return out
}

// parseFlat is the inverse of flat: keys that are in more are read into its
// values.
func parseFlat(data []byte, more map[string]any) (Config, error) {
	keys, err := strictjson.Decode[map[string]json.RawMessage](data)
	if err != nil {
		return nil, err
	}
	var typ string
	if err := json.Unmarshal(keys["type"], &typ); err != nil || typ == "" {
		return nil, errors.New("no type of a loss is given")
	}
	delete(keys, "type")
	for name, dst := range more {
		if v, ok := keys[name]; ok {
			if err := json.Unmarshal(v, dst); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			delete(keys, name)
		}
	}
	rest, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	return Parse(typ, rest)
}

// part is one of several losses that are added up.
type part struct {
	name   string // in front of those of its parameters and state
	loss   Loss
	weight float64
	stash  [][]float32 // gradients that were there before
}

// parts are several losses that are added up.
type parts []part

func (p parts) Parameters() []Param {
	var all []Param
	for _, l := range p {
		for _, q := range l.loss.Parameters() {
			q.Name = l.name + "." + q.Name
			all = append(all, q)
		}
	}
	return all
}

func (p parts) State() []State {
	var all []State
	for _, l := range p {
		for _, s := range l.state() {
			s.Name = l.name + "." + s.Name
			all = append(all, s)
		}
	}
	return all
}

func (l *part) state() []State {
	if s, ok := l.loss.(Stateful); ok {
		return s.State()
	}
	return nil
}

func (p parts) SetState(state []State) error {
	old := p.State()
	if err := named(state, old); err != nil {
		return err
	}
	if err := p.set(state); err != nil {
		return errors.Join(err, p.set(old))
	}
	return nil
}

// set hands each loss its part of a state.
func (p parts) set(state []State) error {
	for i := range p {
		s, ok := p[i].loss.(Stateful)
		if !ok {
			continue
		}
		own := s.State()
		for k := range own {
			own[k].Floats, own[k].Ints = state[k].Floats, state[k].Ints
		}
		if err := s.SetState(own); err != nil {
			return fmt.Errorf("loss %s: %w", p[i].name, err)
		}
		state = state[len(own):]
	}
	return nil
}

// compute is the loss's result, whose embeddings' gradients are not weighted
// yet; those of its own parameters are.
func (l *part) compute(b *Batch, grad bool) (Result, error) {
	var params []Param
	weighted := grad && l.weight != 1
	if weighted {
		params = l.loss.Parameters()
		l.stash = fit(l.stash, len(params))
		for i, p := range params {
			l.stash[i] = append(l.stash[i][:0], p.Grads()...)
			clear(p.Grads())
		}
	}
	res, err := l.loss.Compute(b, grad)
	if weighted {
		for i, p := range params {
			g := p.Grads()
			kernels.Scale(float32(l.weight), g, g)
			kernels.Axpy(1, l.stash[i], g)
		}
	}
	if err != nil {
		return res, fmt.Errorf("loss %s: %w", l.name, err)
	}
	return res, nil
}

// total adds up gradients by embeddings.
type total struct {
	a, b  nn.Buffer
	pairs bool
}

// begin clears the gradients by embeddings of dim values.
func (t *total) begin(b *Batch, dim int) {
	n := b.Rows()
	clear(t.a.Mat(n, dim).Data)
	if t.pairs = b.B != nil; t.pairs {
		clear(t.b.Mat(n, dim).Data)
	}
}

// add adds weight times gradients by the first values of the embeddings.
func (t *total) add(weight float64, r Result) {
	addColumns(weight, r.DA, &t.a)
	if t.pairs {
		addColumns(weight, r.DB, &t.b)
	}
}

func addColumns(weight float64, src *tensor.Dense, dst *nn.Buffer) {
	if src == nil {
		return
	}
	shape, to := src.Shape(), dst.Dense().Shape()
	from := nn.Mat{Rows: shape[0], Cols: shape[1], Data: src.Float32s()}
	sum := dst.Mat(to[0], to[1])
	for i := range sum.Rows {
		kernels.Axpy(float32(weight), from.Row(i), sum.Row(i))
	}
}

// result is the value with the gradients that were added up.
func (t *total) result(value float64) Result {
	r := Result{Value: value, DA: t.a.Dense()}
	if t.pairs {
		r.DB = t.b.Dense()
	}
	return r
}
