package head

import (
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Save writes h's weights as a safetensors file: float32, in the order of
// the parameters' names, so that equal weights give equal bytes. The head's
// configuration is not in it.
func Save(w io.Writer, h Head) error { return nn.SaveWeights(w, h.Parameters()) }

// Load makes the head that c declares for inputs of in values and reads its
// weights from what [Save] wrote. Weights that are missing, not of this
// head, of another shape or not finite are errors.
func Load(r io.Reader, c Config, in int) (Head, error) {
	h, err := c.New(in, rand.New(rand.NewPCG(0, 0)))
	if err != nil {
		return nil, fmt.Errorf("head %s: %w", c.Type(), err)
	}
	if err := nn.LoadWeights(r, "a head "+c.Type(), fmt.Sprintf("for %d values", in), h.Parameters()); err != nil {
		return nil, err
	}
	return h, nil
}
