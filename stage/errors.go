package stage

import (
	"errors"
	"fmt"
)

var (
	// ErrType is the error of an element that came out of a native go-streams
	// component with another type than its receiver declared.
	ErrType = errors.New("element has the wrong type")
	// ErrUnconsumed is the error of a stream that no stage had consumed when
	// [Group.Wait] was called.
	ErrUnconsumed = errors.New("stream is not consumed")
	// ErrConsumed is the error of a stream that was given to two stages.
	ErrConsumed = errors.New("stream is consumed twice")
	// ErrForeign is the error of a stage that was given the stream of another
	// group, or a zero Stream.
	ErrForeign = errors.New("stream is not of this group")
	// ErrWaiting is the error of a stage that was added after [Group.Wait].
	ErrWaiting = errors.New("stage added after Wait")
	// ErrStopped is what emit returns when the receiver has ended early and
	// without an error, so that nothing more is wanted. A stage function that
	// returns it, wrapped or not, ends its stage without an error.
	ErrStopped = errors.New("receiver has stopped")

	errGoexit = errors.New("function called runtime.Goexit")
)

// Error is a failure with the name of the stage that it came from.
type Error struct {
	Stage string
	Err   error
}

// Error returns the stage's name and the failure.
func (e *Error) Error() string { return e.Stage + ": " + e.Err.Error() }

// Unwrap returns the failure.
func (e *Error) Unwrap() error { return e.Err }

// PanicError is a panic of a user's function, recovered. Its stack is not part
// of the message.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // of the goroutine that panicked, as debug.Stack prints it
}

// Error returns the panic's value.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
