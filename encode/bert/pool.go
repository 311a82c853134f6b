package bert

import (
	"math"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// pool writes one vector of the tokens' rows of a text.
func pool(mode string, dst, rows []float32) {
	h := len(dst)
	tokens := len(rows) / h
	switch mode {
	case "cls":
		copy(dst, rows)
	case "lasttoken":
		copy(dst, rows[(tokens-1)*h:])
	case "max":
		copy(dst, rows)
		for at := h; at < len(rows); at += h {
			for i, v := range rows[at : at+h] {
				dst[i] = max(dst[i], v)
			}
		}
	case "weightedmean":
		clear(dst)
		for i := range tokens {
			kernels.Axpy(float32(i+1), rows[i*h:(i+1)*h], dst)
		}
		divide(dst, float32(tokens*(tokens+1)/2))
	default: // mean, mean_sqrt_len_tokens
		clear(dst)
		for at := 0; at < len(rows); at += h {
			kernels.Axpy(1, rows[at:at+h], dst)
		}
		by := float32(tokens)
		if mode == "mean_sqrt_len_tokens" {
			by = float32(math.Sqrt(float64(tokens)))
		}
		divide(dst, by)
	}
}

func divide(x []float32, by float32) {
	for i := range x {
		x[i] /= by
	}
}

// leastLength is what a vector is divided by at least, as in the reference.
const leastLength = 1e-12

func normalize(x []float32) { kernels.Normalize(x, x, leastLength) }
