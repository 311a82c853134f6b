package shapes

// Limits of shapes in the plane.
const (
	// MaxSides is the largest number of sides there can be.
	MaxSides  = 1 << 10
	Unlimited = -1 // not a comment of its own
)

// ErrFlat is returned for shapes without any area.
var ErrFlat error = errFlat{}

// Handler is called for every shape in turn.
type Handler func(s Shape, attributes struct{ Colour, Line string }) error

// Number is what sides are counted in here.
type Number = int

type errFlat struct{}

func (errFlat) Error() string { return "flat" }
