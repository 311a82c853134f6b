package train

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Optimizer declares how gradients change weights. Its zero value is valid,
// and every option's zero value is its default.
type Optimizer interface {
	// Type is the optimizer's name in configuration files.
	Type() string
	// Params are the options with defaults filled in, under their names in
	// configuration files.
	Params() map[string]any
	// Rate is the learning rate, before a [Schedule] scales it.
	Rate() float64
	// New returns the optimizer for params, with fresh state.
	New(params []nn.Param) (Stepper, error)
}

// Stepper changes the values of parameters by their gradients.
type Stepper interface {
	// Step makes one step at a learning rate. It reads the gradients and does
	// not clear them.
	Step(rate float64)
	// State is what Step keeps from step to step. Its memory is the
	// optimizer's own: what is written there is taken up, so a new optimizer
	// with the state of another goes on as that one would.
	State() *State
}

// State is what an optimizer keeps beside the parameters.
type State struct {
	// Steps are done.
	Steps int64
	// Moments hold a value for each value of the parameters, always the same
	// ones in the same order; none for some optimizers.
	Moments []Moment
}

// Moment is one running mean of an optimizer.
type Moment struct {
	Name   string      // unique within the optimizer
	Values [][]float32 // of each parameter, in their order
}

// newMoments returns moments of zero.
func newMoments(params []nn.Param, names ...string) []Moment {
	var out []Moment
	for _, name := range names {
		m := Moment{Name: name}
		for _, p := range params {
			m.Values = append(m.Values, make([]float32, len(p.Values())))
		}
		out = append(out, m)
	}
	return out
}

// ParseOptimizer returns the optimizer declared by a type and the JSON object
// of its options, as [Optimizer.Params] prints them. An unknown option is an
// error.
func ParseOptimizer(typ string, params json.RawMessage) (o Optimizer, err error) {
	switch typ {
	case Adam{}.Type():
		o, err = strictjson.Decode[Adam](params)
	case AdamW{}.Type():
		o, err = strictjson.Decode[AdamW](params)
	case SGD{}.Type():
		o, err = strictjson.Decode[SGD](params)
	default:
		return nil, unknown[Optimizer]("optimizer", typ, Adam{}, AdamW{}, SGD{})
	}
	if err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", typ, err)
	}
	return o, nil
}

// unknown is the error of a type that is not there.
func unknown[T interface{ Type() string }](what, typ string, known ...T) error {
	var names []string
	for _, k := range known {
		names = append(names, k.Type())
	}
	slices.Sort(names)
	return fmt.Errorf("unknown %s type %q (known: %s)", what, typ, strings.Join(names, ", "))
}

// checkRate holds a learning rate to its range.
func checkRate(lr float64) error {
	if !(lr > 0) || math.IsInf(lr, 0) {
		return fmt.Errorf("lr is %v where a number above 0 is needed", lr)
	}
	return nil
}

// checkDecay holds a weight decay to its range.
func checkDecay(d float64) error {
	if !(d >= 0) || math.IsInf(d, 0) {
		return fmt.Errorf("weight_decay is %v where a number from 0 is needed", d)
	}
	return nil
}
