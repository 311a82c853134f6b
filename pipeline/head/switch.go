package head

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Switch declares the head that has one for every option of a switch encoder,
// each for the rows of the objects that chose it. All heads have one size of
// output. A choice among options of options, "a/b", is for the head "a/b", or
// else for "a", where a switch within gets the choice "b". The parameters of
// an option's head are its own with the option and a dot before the name;
// first values are drawn in the order of the options' names. Source:
// Quaterion's SwitchHead.
type Switch struct {
	// Options are the heads by the options' names. At least one is needed.
	Options map[string]Config `json:"options"`
}

// Type is "switch".
func (Switch) Type() string { return "switch" }

// Params is options, each head with its type and its params.
func (c Switch) Params() map[string]any {
	options := map[string]any{}
	for name, part := range c.Options {
		options[name] = nestedParams(part)
	}
	return map[string]any{"options": options}
}

func parseSwitch(params json.RawMessage) (Config, error) {
	raw, err := strictjson.Decode[struct {
		Options map[string]json.RawMessage `json:"options"`
	}](params)
	if err != nil {
		return nil, err
	}
	var c Switch
	for _, name := range slices.Sorted(maps.Keys(raw.Options)) {
		part, err := parseNested(raw.Options[name])
		if err != nil {
			return nil, optionError(name, err)
		}
		if c.Options == nil {
			c.Options = map[string]Config{}
		}
		c.Options[name] = part
	}
	return c, nil
}

func optionError(name string, err error) error { return fmt.Errorf("option %q: %w", name, err) }

var errNoChoices = errors.New("a head switch needs the choices of one switch encoder, and there are none")

// optionOf finds the option of a choice: that of its name, else of its part
// before a "/". rest is what is behind that.
func optionOf[T any](choice string, options map[string]T) (option T, rest string, ok bool) {
	for end := len(choice); end >= 0; end = strings.LastIndexByte(choice[:end], '/') {
		if option, ok = options[choice[:end]]; ok {
			return option, strings.TrimPrefix(choice[end:], "/"), true
		}
	}
	return option, "", false
}

// New returns the head. No options, outputs of different sizes and what a
// head reports are errors.
func (c Switch) New(in int, rng *rand.Rand) (Head, error) {
	if err := checkIn(in); err != nil {
		return nil, err
	}
	if len(c.Options) == 0 {
		return nil, errors.New("options: name the options, each with its head")
	}
	s := &switched{numbers: map[string]int{}}
	names := map[string]bool{}
	for i, name := range slices.Sorted(maps.Keys(c.Options)) {
		h, err := newNested(c.Options[name], in, rng)
		if err != nil {
			return nil, optionError(name, err)
		}
		if i > 0 && h.Out() != s.Out() {
			return nil, fmt.Errorf("the heads of a switch must have one size of output: %s has %d, %s has %d", s.names[0], s.Out(), name, h.Out())
		}
		for _, p := range prefixed(name, h) {
			if names[p.Name] {
				return nil, fmt.Errorf("options: two parameters would be named %q", p.Name)
			}
			names[p.Name] = true
		}
		s.numbers[name] = i
		s.names = append(s.names, name)
		s.parts = append(s.parts, h)
	}
	return s, nil
}

type switched struct {
	names   []string // of the options, sorted
	numbers map[string]int
	parts   []Head
}

func (s *switched) In() int  { return s.parts[0].In() }
func (s *switched) Out() int { return s.parts[0].Out() }

func (s *switched) Parameters() (all []Param) {
	for i, h := range s.parts {
		all = append(all, prefixed(s.names[i], h)...)
	}
	return all
}

func (s *switched) steps() ([]Step, error) {
	r := Route{Names: slices.Clone(s.names)}
	for i, h := range s.parts {
		steps, err := Steps(h)
		if err != nil {
			return nil, optionError(s.names[i], err)
		}
		r.Options = append(r.Options, steps)
	}
	return []Step{r}, nil
}

// routes are the rows of each option, in their order, and what is left of
// their choices for a switch within.
type routes []route

type route struct {
	rows []int
	rest []string
}

// sort finds the option of every choice.
func (r routes) sort(choices []string, rows int, numbers map[string]int) error {
	if choices == nil {
		return errNoChoices
	}
	if len(choices) != rows {
		return fmt.Errorf("there are %d rows and %d choices", rows, len(choices))
	}
	for k := range r {
		r[k].rows, r[k].rest = r[k].rows[:0], r[k].rest[:0]
	}
	for i, choice := range choices {
		k, rest, ok := optionOf(choice, numbers)
		if !ok {
			return fmt.Errorf("row %d chose %q, which is no option of the head", i, choice)
		}
		r[k].rows, r[k].rest = append(r[k].rows, i), append(r[k].rest, rest)
	}
	return nil
}

// gather copies the option's rows of x to a buffer.
func (r route) gather(x nn.Mat, buf *nn.Buffer) *tensor.Dense {
	m := buf.Mat(len(r.rows), x.Cols)
	for i, row := range r.rows {
		copy(m.Row(i), x.Row(row))
	}
	return buf.Dense()
}

// scatter puts the option's rows where they belong in y.
func (r route) scatter(y nn.Mat, rows *tensor.Dense) error {
	m, err := nn.ViewCols(rows, y.Cols)
	if err != nil {
		return err
	}
	for i, row := range r.rows {
		copy(y.Row(row), m.Row(i))
	}
	return nil
}

func (s *switched) NewPass() Pass {
	n := len(s.parts)
	p := &switchPass{head: s, routes: make(routes, n), in: make([]nn.Buffer, n), out: make([]nn.Buffer, n)}
	for _, h := range s.parts {
		p.parts = append(p.parts, h.NewPass())
	}
	return p
}

type switchPass struct {
	head   *switched
	parts  []Pass
	rows   int // of the last Forward
	routes routes
	in     []nn.Buffer // the inputs of the heads
	out    []nn.Buffer // the gradients of their outputs
	y, dx  nn.Buffer
}

func (p *switchPass) Forward(x *tensor.Dense) (*tensor.Dense, error) {
	return p.ForwardChoices(x, nil)
}

func (p *switchPass) ForwardChoices(x *tensor.Dense, choices []string) (*tensor.Dense, error) {
	m, err := nn.ViewCols(x, p.head.In())
	if err != nil {
		return nil, err
	}
	if err := p.routes.sort(choices, m.Rows, p.head.numbers); err != nil {
		return nil, err
	}
	p.rows = m.Rows
	y := p.y.Mat(m.Rows, p.head.Out())
	for k, part := range p.parts {
		if len(p.routes[k].rows) == 0 {
			continue
		}
		rows, err := Forward(part, p.routes[k].gather(m, &p.in[k]), p.routes[k].rest)
		if err == nil {
			err = p.routes[k].scatter(y, rows)
		}
		if err != nil {
			return nil, optionError(p.head.names[k], err)
		}
	}
	return p.y.Dense(), nil
}

func (p *switchPass) Backward(dy *tensor.Dense, wantInput bool) (*tensor.Dense, error) {
	g, err := gradientView(dy, p.head.Out(), p.rows)
	if err != nil {
		return nil, err
	}
	var dx nn.Mat
	if wantInput {
		dx = p.dx.Mat(g.Rows, p.head.In())
	}
	for k, part := range p.parts {
		if len(p.routes[k].rows) == 0 {
			continue
		}
		rows, err := part.Backward(p.routes[k].gather(g, &p.out[k]), wantInput)
		if err == nil && wantInput {
			err = p.routes[k].scatter(dx, rows)
		}
		if err != nil {
			return nil, optionError(p.head.names[k], err)
		}
	}
	if !wantInput {
		return nil, nil
	}
	return p.dx.Dense(), nil
}

func (s *switched) Freeze() Frozen {
	f := &frozenSwitch{names: s.names, numbers: s.numbers}
	n := len(s.parts)
	for _, h := range s.parts {
		f.parts = append(f.parts, h.Freeze())
	}
	f.scratch.New = func() any { return &switchScratch{make(routes, n), make([]nn.Buffer, n), make([]nn.Buffer, n)} }
	return f
}

type frozenSwitch struct {
	names   []string
	numbers map[string]int
	parts   []Frozen
	scratch sync.Pool // of *switchScratch
}

// switchScratch is that of one Apply.
type switchScratch struct {
	routes  routes
	in, out []nn.Buffer
}

func (f *frozenSwitch) In() int  { return f.parts[0].In() }
func (f *frozenSwitch) Out() int { return f.parts[0].Out() }

func (f *frozenSwitch) Apply(dst, x *tensor.Dense) error { return f.ApplyChoices(dst, x, nil) }

func (f *frozenSwitch) ApplyChoices(dst, x *tensor.Dense, choices []string) error {
	d, m, err := applyViews(dst, x, f.In(), f.Out())
	if err != nil {
		return err
	}
	s := f.scratch.Get().(*switchScratch)
	defer f.scratch.Put(s)
	if err := s.routes.sort(choices, m.Rows, f.numbers); err != nil {
		return err
	}
	for k, part := range f.parts {
		if len(s.routes[k].rows) == 0 {
			continue
		}
		s.out[k].Mat(len(s.routes[k].rows), f.Out())
		err := Apply(part, s.out[k].Dense(), s.routes[k].gather(m, &s.in[k]), s.routes[k].rest)
		if err == nil {
			err = s.routes[k].scatter(d, s.out[k].Dense())
		}
		if err != nil {
			return optionError(f.names[k], err)
		}
	}
	return nil
}
