package head

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Sequential declares heads one after the other: the output of each is the
// input of the next. The parameters of head i, from 0, are its own with "i."
// before the name. Source: Quaterion's SequentialHead.
type Sequential struct {
	// Heads are the heads in their order. At least one is needed.
	Heads []Config `json:"heads"`
}

// Type is "sequential".
func (Sequential) Type() string { return "sequential" }

// Params is heads, each with its type and its params.
func (c Sequential) Params() map[string]any {
	heads := make([]any, len(c.Heads))
	for i, part := range c.Heads {
		heads[i] = nestedParams(part)
	}
	return map[string]any{"heads": heads}
}

func parseSequential(params json.RawMessage) (Config, error) {
	raw, err := strictjson.Decode[struct {
		Heads []json.RawMessage `json:"heads"`
	}](params)
	if err != nil {
		return nil, err
	}
	var c Sequential
	for i, b := range raw.Heads {
		part, err := parseNested(b)
		if err != nil {
			return nil, partError(i, err)
		}
		c.Heads = append(c.Heads, part)
	}
	return c, nil
}

// nestedParams are a head's params with its type.
func nestedParams(c Config) map[string]any {
	params := map[string]any{}
	if c != nil {
		maps.Copy(params, c.Params())
		params["type"] = c.Type()
	}
	return params
}

// parseNested reads what nestedParams gives.
func parseNested(b json.RawMessage) (Config, error) {
	var params map[string]json.RawMessage
	if err := json.Unmarshal(b, &params); err != nil {
		return nil, errors.New("want a head: {type: ...}")
	}
	var typ string
	if err := json.Unmarshal(params["type"], &typ); err != nil || typ == "" {
		return nil, errors.New("no type is given")
	}
	delete(params, "type")
	rest, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	return Parse(typ, rest)
}

// New returns the head. No heads, and what a head reports, are errors.
func (c Sequential) New(in int, rng *rand.Rand) (Head, error) {
	if err := checkIn(in); err != nil {
		return nil, err
	}
	if len(c.Heads) == 0 {
		return nil, errors.New("heads: name at least one head")
	}
	s := &sequential{}
	for i, part := range c.Heads {
		h, err := newNested(part, in, rng)
		if err != nil {
			return nil, partError(i, err)
		}
		s.parts = append(s.parts, h)
		in = h.Out()
	}
	return s, nil
}

func newNested(c Config, in int, rng *rand.Rand) (Head, error) {
	if c == nil {
		return nil, errors.New("a head is missing")
	}
	h, err := c.New(in, rng)
	if err != nil {
		return nil, fmt.Errorf("head %s: %w", c.Type(), err)
	}
	return h, nil
}

type sequential struct{ parts []Head }

func (s *sequential) last() Head { return s.parts[len(s.parts)-1] }
func (s *sequential) In() int    { return s.parts[0].In() }
func (s *sequential) Out() int   { return s.last().Out() }

func (s *sequential) Parameters() (all []Param) {
	for i, h := range s.parts {
		all = append(all, prefixed(strconv.Itoa(i), h)...)
	}
	return all
}

// prefixed are the parameters of a head within another one.
func prefixed(prefix string, h Head) []Param {
	params := append([]Param(nil), h.Parameters()...)
	for i := range params {
		params[i].Name = prefix + "." + params[i].Name
	}
	return params
}

func (s *sequential) steps() (all []Step, err error) {
	for i, h := range s.parts {
		steps, err := Steps(h)
		if err != nil {
			return nil, partError(i, err)
		}
		all = append(all, steps...)
	}
	return all, nil
}

func (s *sequential) NewPass() Pass {
	p := &sequentialPass{}
	trained := false
	for _, h := range s.parts {
		p.parts = append(p.parts, h.NewPass())
		p.trained = append(p.trained, trained)
		trained = trained || len(h.Parameters()) > 0
	}
	return p
}

type sequentialPass struct {
	parts   []Pass
	trained []bool // by part: one before it has parameters
}

func (p *sequentialPass) Forward(x *tensor.Dense) (*tensor.Dense, error) {
	return p.ForwardChoices(x, nil)
}

func (p *sequentialPass) ForwardChoices(x *tensor.Dense, choices []string) (*tensor.Dense, error) {
	for i, part := range p.parts {
		var err error
		if x, err = Forward(part, x, choices); err != nil {
			return nil, partError(i, err)
		}
	}
	return x, nil
}

func (p *sequentialPass) Backward(dy *tensor.Dense, wantInput bool) (*tensor.Dense, error) {
	for i := len(p.parts) - 1; i >= 0; i-- {
		want := wantInput || p.trained[i]
		var err error
		if dy, err = p.parts[i].Backward(dy, want); err != nil {
			return nil, partError(i, err)
		}
		if !want {
			return nil, nil
		}
	}
	return dy, nil
}

func partError(i int, err error) error { return fmt.Errorf("heads[%d]: %w", i, err) }

func (s *sequential) Freeze() Frozen {
	f := &frozenSequential{}
	for _, h := range s.parts {
		f.parts = append(f.parts, h.Freeze())
	}
	f.between.New = func() any { return &[2]nn.Buffer{} }
	return f
}

type frozenSequential struct {
	parts   []Frozen
	between sync.Pool // of *[2]nn.Buffer: the inputs of the heads, in turn
}

func (f *frozenSequential) In() int  { return f.parts[0].In() }
func (f *frozenSequential) Out() int { return f.parts[len(f.parts)-1].Out() }

func (f *frozenSequential) Apply(dst, x *tensor.Dense) error { return f.ApplyChoices(dst, x, nil) }

func (f *frozenSequential) ApplyChoices(dst, x *tensor.Dense, choices []string) error {
	_, in, err := applyViews(dst, x, f.In(), f.Out())
	if err != nil {
		return err
	}
	between := f.between.Get().(*[2]nn.Buffer)
	defer f.between.Put(between)
	for i, part := range f.parts {
		y := dst
		if i < len(f.parts)-1 {
			between[i%2].Mat(in.Rows, part.Out())
			y = between[i%2].Dense()
		}
		if err := Apply(part, y, x, choices); err != nil {
			return partError(i, err)
		}
		x = y
	}
	return nil
}
