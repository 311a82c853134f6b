package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
)

// Schedule declares how the learning rate changes from step to step. Its zero
// value is valid.
type Schedule interface {
	// Type is the schedule's name in configuration files.
	Type() string
	// Params are the options under their names in configuration files.
	Params() map[string]any
	// Validate reports options out of range.
	Validate() error
	// Factor is what the optimizer's learning rate is multiplied by at a step,
	// from 0. steps gives the number of all steps of the training; with some
	// samplers it takes long to count them.
	Factor(step int64, steps func() int64) float64
}

// Warmup raises the learning rate in equal parts from 0 at the first step to
// the whole after some steps: at step s of w it is s/w, as in Hugging Face's
// transformers.
type Warmup struct {
	// Steps is the number of steps of the warm-up. Default: 0.
	Steps int `json:"warmup_steps"`
	// Fraction is the part of all steps that it takes, rounded up, from 0 to
	// 1; in place of Steps. Default: 0.
	Fraction float64 `json:"warmup_fraction"`
}

// Params are warmup_steps and warmup_fraction.
func (w Warmup) Params() map[string]any {
	return map[string]any{"warmup_steps": w.Steps, "warmup_fraction": w.Fraction}
}

// Validate reports options out of range.
func (w Warmup) Validate() error {
	switch {
	case w.Steps < 0:
		return fmt.Errorf("warmup_steps is %d", w.Steps)
	case !(w.Fraction >= 0 && w.Fraction <= 1):
		return fmt.Errorf("warmup_fraction is %v where a number from 0 to 1 is needed", w.Fraction)
	case w.Steps > 0 && w.Fraction > 0:
		return errors.New("warmup_steps and warmup_fraction exclude each other")
	}
	return nil
}

// length is the number of its steps.
func (w Warmup) length(steps func() int64) int64 {
	if w.Fraction > 0 {
		return int64(math.Ceil(w.Fraction * float64(steps())))
	}
	return int64(w.Steps)
}

// Factor is that of the warm-up, 1 behind it.
func (w Warmup) Factor(step int64, steps func() int64) float64 {
	if warm := w.length(steps); step < warm {
		return float64(step) / float64(warm)
	}
	return 1
}

// done is how far the steps behind the warm-up are done, from 0 to 1.
func (w Warmup) done(step int64, steps func() int64) float64 {
	warm := w.length(steps)
	if step < warm {
		return 0
	}
	return min(1, float64(step-warm)/float64(max(steps()-warm, 1)))
}

// Constant declares a learning rate that stays as it is after the warm-up.
type Constant struct{ Warmup }

// Type is "constant".
func (Constant) Type() string { return "constant" }

// Linear declares a learning rate that falls in equal parts to 0 at the end.
type Linear struct{ Warmup }

// Type is "linear".
func (Linear) Type() string { return "linear" }

// Factor implements [Schedule].
func (l Linear) Factor(step int64, steps func() int64) float64 {
	return l.Warmup.Factor(step, steps) * (1 - l.done(step, steps))
}

// Cosine declares a learning rate that falls to 0 at the end along half a
// wave, (1 + cos(π·t))/2 (Loshchilov and Hutter 2017, without restarts).
type Cosine struct{ Warmup }

// Type is "cosine".
func (Cosine) Type() string { return "cosine" }

// Factor implements [Schedule].
func (c Cosine) Factor(step int64, steps func() int64) float64 {
	return c.Warmup.Factor(step, steps) * 0.5 * (1 + math.Cos(math.Pi*c.done(step, steps)))
}

// ParseSchedule returns the schedule declared by a type and the JSON object
// of its options, as [Schedule.Params] prints them. An unknown option and one
// out of range are errors.
func ParseSchedule(typ string, params json.RawMessage) (s Schedule, err error) {
	switch typ {
	case Constant{}.Type():
		s, err = strictjson.Decode[Constant](params)
	case Linear{}.Type():
		s, err = strictjson.Decode[Linear](params)
	case Cosine{}.Type():
		s, err = strictjson.Decode[Cosine](params)
	default:
		return nil, unknown[Schedule]("schedule", typ, Constant{}, Linear{}, Cosine{})
	}
	if err == nil {
		err = s.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("schedule %s: %w", typ, err)
	}
	return s, nil
}
