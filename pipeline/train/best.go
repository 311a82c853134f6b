package train

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// The modes of a monitored value.
const (
	modeMin = "min"
	modeMax = "max"
)

// modeOf is the mode of a value by its name.
func modeOf(name string) string {
	if name == TrainLoss || name == ValLoss {
		return modeMin
	}
	return modeMax
}

// Best is the best epoch of a training.
type Best struct {
	Monitor string  `json:"monitor"` // the name of the value
	Epoch   int     `json:"epoch"`   // from 0
	Value   float64 `json:"value"`
}

// judge follows the monitored value and keeps the weights of the best epoch.
type judge struct {
	stop   *EarlyStopping // nil: nothing ends the training
	params []nn.Param
	best   *Best
	waited int         // validations since
	values [][]float32 // of the parameters at the best epoch
}

// see takes a finished epoch up. It reports whether the training is to end.
func (j *judge) see(e *Epoch) (stop bool, err error) {
	name, ok := j.monitor(e)
	if !ok {
		return false, nil
	}
	value, measured := e.Validation[name]
	if name == TrainLoss {
		value, measured = e.Loss, true
	}
	if !measured {
		known := append([]string{TrainLoss}, slices.Sorted(maps.Keys(e.Validation))...)
		return false, fmt.Errorf("early stopping monitors %q; what is measured is %s", name, strings.Join(known, ", "))
	}
	if j.better(name, value) {
		j.best, j.waited = &Best{Monitor: name, Epoch: e.Epoch, Value: value}, 0
		e.Best = true
		j.keep()
		return false, nil
	}
	j.waited++
	return j.stop != nil && j.waited >= j.stop.Patience, nil
}

// monitor is the name of what decides which epoch is the best; false where
// nothing was measured.
func (j *judge) monitor(e *Epoch) (string, bool) {
	switch {
	case j.stop != nil && j.stop.Monitor == TrainLoss:
		return TrainLoss, true
	case e.Validation == nil:
		return "", false
	case j.stop != nil:
		return j.stop.Monitor, true
	}
	if _, ok := e.Validation[ValLoss]; ok {
		return ValLoss, true
	}
	names := slices.Sorted(maps.Keys(e.Validation))
	if len(names) == 0 {
		return "", false
	}
	return names[0], true
}

func (j *judge) better(name string, v float64) bool {
	mode, delta := modeOf(name), 0.0
	if j.stop != nil {
		mode, delta = j.stop.Mode, j.stop.MinDelta
	}
	switch {
	case math.IsNaN(v):
		return false
	case j.best == nil:
		return true
	case mode == modeMin:
		return v < j.best.Value-delta
	}
	return v > j.best.Value+delta
}

// keep copies the weights as they are.
func (j *judge) keep() {
	if j.values == nil {
		for _, p := range j.params {
			j.values = append(j.values, make([]float32, len(p.Values())))
		}
	}
	for i, p := range j.params {
		copy(j.values[i], p.Values())
	}
}

// restore takes the best weights back.
func (j *judge) restore() {
	for i, v := range j.values {
		copy(j.params[i].Values(), v)
	}
}
