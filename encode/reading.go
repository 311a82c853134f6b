package encode

// Reading returns the model m for objects of which it reads r, instead of
// the field "text".
func Reading(m Model, r Reads) Model { return reading{m, r} }

type reading struct {
	Model
	reads Reads
}

// ReadsOf returns what [Reading] declared for a model, else the zero Reads.
func ReadsOf(m Model) Reads {
	if r, ok := m.(reading); ok {
		return r.reads
	}
	return Reads{}
}

// Unwrap returns the model that [Reading] was given, or m itself.
func Unwrap(m Model) Model {
	if r, ok := m.(reading); ok {
		return r.Model
	}
	return m
}
