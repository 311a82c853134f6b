package train

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// DivergedError is returned by [Fit] where the data, a loss, a gradient or a
// weight is NaN or infinite. The step is not made, but for a weight.
type DivergedError struct {
	Epoch, Step int     // both from 0; the last step for a weight
	Loss        float64 // at that step
	// What is not finite: "the data", "the head's output", "the loss",
	// "the gradient", "the validation's loss" or "a weight".
	What string
	// Rows are the samples of the batch that have it, or all of the batch where
	// it is none's alone: by their numbers in the split, or in the batch where
	// the data do not tell those. None for a weight and a validation.
	Rows []int64
	// Numbered says that Rows are numbers in the split.
	Numbered bool
	// Checkpoint is the file of the last checkpoint, from before; empty where
	// there is none.
	Checkpoint string
	Err        error // which weight; nil for others
}

// rowsShown bounds the rows in a message.
const rowsShown = 8

// Error names the epoch, the step and the first rows.
func (e *DivergedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "training diverged at epoch %d, step %d: ", e.Epoch, e.Step)
	switch {
	case e.Err != nil:
		b.WriteString(e.Err.Error())
	case e.What == whatLoss:
		fmt.Fprintf(&b, "the loss is %v", e.Loss)
	default:
		fmt.Fprintf(&b, "NaN or infinity in %s", e.What)
	}
	if len(e.Rows) > 0 {
		b.WriteString(", rows ")
		for i, r := range e.Rows[:min(len(e.Rows), rowsShown)] {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(strconv.FormatInt(r, 10))
		}
		if more := len(e.Rows) - rowsShown; more > 0 {
			fmt.Fprintf(&b, " and %d more", more)
		}
		if !e.Numbered {
			b.WriteString(" of the batch")
		}
	}
	if e.What != whatData {
		b.WriteString("; a lower learning rate may help")
	}
	if e.Checkpoint != "" {
		fmt.Fprintf(&b, "; the last good checkpoint is %s", e.Checkpoint)
	}
	return b.String()
}

// Unwrap is what was found in the weights.
func (e *DivergedError) Unwrap() error { return e.Err }

// What may diverge.
const (
	whatData     = "the data"
	whatOutput   = "the head's output"
	whatLoss     = "the loss"
	whatGradient = "the gradient"
	whatValLoss  = "the validation's loss"
	whatWeight   = "a weight"
)

// diverged describes what is not finite at the step that goes on, with the
// rows that are to blame where some are.
func (f *fit) diverged(what string, value float64, b *Batch) *DivergedError {
	e := &DivergedError{Epoch: f.at.Epoch, Step: int(f.at.Done), Loss: value, What: what, Checkpoint: f.saved}
	if b == nil {
		return e
	}
	rows := notFinite(b)
	if rows != nil {
		e.What = whatData
	} else if rows = notFinite(&f.embedded); rows != nil {
		e.What = whatOutput
	}
	if rows == nil {
		for i := range b.Rows() {
			rows = append(rows, i)
		}
	}
	e.Numbered = b.Index != nil
	for _, r := range rows {
		n := int64(r)
		if e.Numbered {
			n = b.Index[r]
		}
		e.Rows = append(e.Rows, n)
	}
	return e
}

// notFinite returns the rows of a batch that hold a NaN or an infinity, on
// one side or the other.
func notFinite(b *Batch) (rows []int) {
	m, err := nn.View(b.A)
	if err == nil {
		rows = nn.NotFinite(rows, m)
	}
	if b.B == nil {
		return rows
	}
	if m, err = nn.View(b.B); err == nil {
		rows = nn.NotFinite(rows, m)
		slices.Sort(rows)
		rows = slices.Compact(rows)
	}
	return rows
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
