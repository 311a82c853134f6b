package head

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/safetensors"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Save writes h's weights as a safetensors file: float32, in the order of
// the parameters' names, so that equal weights give equal bytes. The head's
// configuration is not in it.
func Save(w io.Writer, h Head) error {
	var tensors []safetensors.Tensor
	for _, p := range h.Parameters() {
		tensors = append(tensors, safetensors.Tensor{Name: p.Name, Shape: p.Value.Shape(), Data: p.Values()})
	}
	return safetensors.Write(w, tensors, map[string]string{"format": "pt"})
}

// Load makes the head that c declares for inputs of in values and reads its
// weights from what [Save] wrote. Weights that are missing, not of this
// head, of another shape or not finite are errors.
func Load(r io.Reader, c Config, in int) (Head, error) {
	h, err := c.New(in, rand.New(rand.NewPCG(0, 0)))
	if err != nil {
		return nil, fmt.Errorf("head %s: %w", c.Type(), err)
	}
	missing := map[string]Param{}
	for _, p := range h.Parameters() {
		missing[p.Name] = p
	}
	_, err = safetensors.Read(r, func(name string, shape []int) ([]float32, error) {
		p, ok := missing[name]
		if !ok {
			return nil, fmt.Errorf("a head %s has no weights %q", c.Type(), name)
		}
		if !slices.Equal(shape, []int(p.Value.Shape())) {
			return nil, fmt.Errorf("weights %q are of shape %v where a head %s for %d values has %v",
				name, shape, c.Type(), in, p.Value.Shape())
		}
		delete(missing, name)
		return p.Values(), nil
	})
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		names := make([]string, 0, len(missing))
		for name := range missing {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("weights %q of a head %s are missing", names, c.Type())
	}
	if err := nn.CheckFinite(h.Parameters()); err != nil {
		return nil, fmt.Errorf("damaged weights: %w", err)
	}
	return h, nil
}
