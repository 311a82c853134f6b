// Package shapes is read by tests.
package shapes

// Shape is anything that has an area. More is said here.
type Shape interface {
	// Area is the size of the surface.
	Area() float64
	Scale(by float64,
		origin [2]float64) (Shape, error)
	unexported()
}

// A Square has four equal sides and [Square.Area] of one squared.
type Square struct {
	Side float64 // in metres
	Name string
	id   int
}

// Area returns the side times itself.
func (s *Square) Area() float64 { return s.Side * s.Side }

// Sides returns the number of sides of any polygon
// that is drawn in
// the plane, e.g. a triangle. It never fails.
func Sides[S ~[]E, E Shape](
	polygon S,
	strict bool,
) (n int) {
	return len(polygon)
}

// Opaque keeps all of its fields to itself.
type Opaque struct{ a, b int }

// Pair holds two values of one type.
type Pair[T any] struct{ A, B T }

// Swap returns the pair with its values exchanged.
func (p Pair[T]) Swap() Pair[T] { return Pair[T]{p.B, p.A} }

// Area returns the side times itself.
func Area(s *Square) float64 { return s.Area() }

// Too short here.
func Short() {}

func Undocumented() {}

// Old was once the way to do it.
//
// Deprecated: use Sides.
func Old() {}

// unexported functions are no part of it.
func unexported() {}

type hidden struct{}

// Exported methods of unexported types are no part of it.
func (hidden) Exported() {}
