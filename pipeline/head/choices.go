package head

import (
	"fmt"
	"maps"
	"slices"

	"gorgonia.org/tensor"
)

// A switch encoder lets each object choose one of several encoders; a
// [Switch] routes an object's row by that choice. Heads that have one inside
// are told the choices of the rows with the rows.

// ChoicePass is a [Pass] that uses the choices of its rows' objects.
type ChoicePass interface {
	Pass
	// ForwardChoices is Forward with the choice of every row. nil stands for
	// rows without choices.
	ForwardChoices(x *tensor.Dense, choices []string) (*tensor.Dense, error)
}

// ChoiceFrozen is a [Frozen] that uses the choices of its rows' objects.
type ChoiceFrozen interface {
	Frozen
	// ApplyChoices is Apply with the choice of every row. nil stands for
	// rows without choices.
	ApplyChoices(dst, x *tensor.Dense, choices []string) error
}

// Forward is p's Forward, with the choices of the rows of x for a pass that
// uses them; choices may be nil.
func Forward(p Pass, x *tensor.Dense, choices []string) (*tensor.Dense, error) {
	if c, ok := p.(ChoicePass); ok {
		return c.ForwardChoices(x, choices)
	}
	return p.Forward(x)
}

// Apply is f's Apply, with the choices of the rows of x for a head that uses
// them; choices may be nil.
func Apply(f Frozen, dst, x *tensor.Dense, choices []string) error {
	if c, ok := f.(ChoiceFrozen); ok {
		return c.ApplyChoices(dst, x, choices)
	}
	return f.Apply(dst, x)
}

// CheckChoices reports whether the heads that c declares can route every one
// of choices, which are all that objects can make, none where there is no
// switch encoder.
func CheckChoices(c Config, choices []string) error {
	switch c := c.(type) {
	case Sequential:
		for i, part := range c.Heads {
			if err := CheckChoices(part, choices); err != nil {
				return partError(i, err)
			}
		}
	case Switch:
		return c.checkChoices(choices)
	}
	return nil
}

func (c Switch) checkChoices(choices []string) error {
	if len(choices) == 0 {
		return errNoChoices
	}
	names := map[string]string{}
	for name := range c.Options {
		names[name] = name
	}
	within := map[string][]string{}
	for _, choice := range choices {
		name, rest, ok := optionOf(choice, names)
		if !ok {
			return fmt.Errorf("there is no head for the choice %q", choice)
		}
		within[name] = append(within[name], rest)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		if within[name] == nil {
			return fmt.Errorf("no object can choose the option %q, only %q", name, choices)
		}
		if err := CheckChoices(c.Options[name], within[name]); err != nil {
			return optionError(name, err)
		}
	}
	return nil
}
