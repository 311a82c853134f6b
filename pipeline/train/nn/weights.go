package nn

import (
	"fmt"
	"io"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/safetensors"
)

// SaveWeights writes the values of params as a safetensors file: float32, in
// the order of the parameters' names, so that equal weights give equal bytes.
func SaveWeights(w io.Writer, params []Param) error {
	var tensors []safetensors.Tensor
	for _, p := range params {
		tensors = append(tensors, safetensors.Tensor{Name: p.Name, Shape: p.Value.Shape(), Data: p.Values()})
	}
	return safetensors.Write(w, tensors, map[string]string{"format": "pt"})
}

// LoadWeights reads what [SaveWeights] wrote into params, which are all that
// owner has. Weights that are missing, not among params, of another shape or
// not finite are errors; these name the owner, "a head empty", say, and where
// it is about shapes what they follow from, "for 4 values".
func LoadWeights(r io.Reader, owner, made string, params []Param) error {
	missing := map[string]Param{}
	for _, p := range params {
		missing[p.Name] = p
	}
	_, err := safetensors.Read(r, func(name string, shape []int) ([]float32, error) {
		p, ok := missing[name]
		if !ok {
			return nil, fmt.Errorf("%s has no weights %q", owner, name)
		}
		if !slices.Equal(shape, []int(p.Value.Shape())) {
			return nil, fmt.Errorf("weights %q are of shape %v where %s %s has %v", name, shape, owner, made, p.Value.Shape())
		}
		delete(missing, name)
		return p.Values(), nil
	})
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		names := make([]string, 0, len(missing))
		for name := range missing {
			names = append(names, name)
		}
		slices.Sort(names)
		return fmt.Errorf("weights %q of %s are missing", names, owner)
	}
	if err := CheckFinite(params); err != nil {
		return fmt.Errorf("damaged weights: %w", err)
	}
	return nil
}
