package loss

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// VariantQuaterion selects formulas as Quaterion computes them.
const VariantQuaterion = "quaterion"

var errNoLabels = errors.New("the batch has no labels")

// quaterion reports whether that variant is chosen; others are errors.
func quaterion(variant string) (bool, error) {
	switch variant {
	case "", VariantQuaterion:
		return variant != "", nil
	}
	return false, fmt.Errorf("variant is %q where %q or nothing is known", variant, VariantQuaterion)
}

// above0 reports an option that is not a finite number above 0.
func above0(name string, v float64) error {
	if !(v > 0) || math.IsInf(v, 0) {
		return fmt.Errorf("%s is %v where a number above 0 is needed", name, v)
	}
	return nil
}

// oneOf reports an option that is none of those known.
func oneOf[T ~string](name string, v T, known ...T) error {
	if slices.Contains(known, v) {
		return nil
	}
	var names []string
	for _, k := range known {
		names = append(names, string(k))
	}
	return fmt.Errorf("%s is %q where %s is known", name, string(v), strings.Join(names, ", "))
}

// or is an option's value, or its default for the zero value.
func or[T comparable](v, byDefault T) T {
	var zero T
	if v == zero {
		return byDefault
	}
	return v
}

// dimension reports embeddings without values.
func dimension(dim int) error {
	if dim <= 0 {
		return fmt.Errorf("embeddings have %d values", dim)
	}
	return nil
}

// atMost reports an option that is not above 0 and at most most.
func atMost(name string, v, most float64) error {
	if !(v > 0 && v <= most) {
		return fmt.Errorf("%s is %v where a number above 0 and at most %.4g is needed", name, v, most)
	}
	return nil
}
