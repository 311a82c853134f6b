package loss

import (
	"fmt"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// pairs are both sides of a batch of pairs, of dim values each, with columns
// that fit.
func (b *Batch) pairs(dim int) (x, y nn.Mat, err error) {
	if x, err = nn.ViewCols(b.A, dim); err != nil {
		return x, y, fmt.Errorf("first side: %w", err)
	}
	if y, err = nn.ViewCols(b.B, dim); err != nil {
		return x, y, fmt.Errorf("second side: %w", err)
	}
	if y.Rows != x.Rows {
		return x, y, fmt.Errorf("a batch has %d first and %d second sides", x.Rows, y.Rows)
	}
	return x, y, b.lengths(x.Rows)
}

// score is the score of a pair.
func (b *Batch) score(i int) float64 {
	if b.Scores == nil {
		return 1
	}
	return float64(b.Scores[i])
}
