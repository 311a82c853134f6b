package loss

// Stateful is implemented by losses that keep more from step to step than
// their parameters, such as a memory of earlier batches. With the parameters,
// the state is all that a loss needs to go on bit for bit: training resumes
// from both.
type Stateful interface {
	Loss
	// State returns what the loss keeps, always under the same names and in
	// the same order; lengths may change. It is borrowed until the next call
	// of Compute or SetState.
	State() []State
	// SetState takes over a copy of what State of a loss of the same
	// configuration, dimension and classes returned. Anything else is an
	// error and leaves the loss as it was.
	SetState(state []State) error
}

// State is one named array of a [Stateful] loss: of numbers in float32, or of
// whole numbers.
type State struct {
	// Name is unique within the loss.
	Name string
	// Floats are the values, nil for whole numbers.
	Floats []float32
	// Ints are the values, nil for numbers in float32.
	Ints []int64
}
