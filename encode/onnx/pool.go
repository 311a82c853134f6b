package onnx

import (
	"slices"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// least is the length that a normalized embedding is divided by at least.
const least = 1e-12

// pool makes the embedding of a row of the output. A text has that many
// tokens before the padding; what of a picture there is counts in full.
func (e *encoder) pool(dst, row []float32, tokens int) {
	s := e.setup
	full := s.modelDim()
	embedding := dst
	if s.steps.whole { // and truncated afterwards
		e.whole = slices.Grow(e.whole[:0], s.modelDim())[:s.modelDim()]
		dst = e.whole
	}
	switch len(s.output.dims) {
	case 2:
		copy(dst, row)
	case 3:
		if s.images != nil {
			tokens = len(row) / full
		}
		poolTokens(dst, row[:tokens*full], full, s.pooling)
	case 4:
		poolPlanes(dst, row, len(row)/full, s.pooling)
	}
	if s.steps.whole || s.steps.last {
		kernels.Normalize(dst, dst, least)
	}
	copy(embedding, dst)
}

// poolTokens pools vectors of dim values, of which dst takes the first.
func poolTokens(dst, vectors []float32, dim int, pooling string) {
	copy(dst, vectors)
	if pooling == "cls" {
		return
	}
	n := len(vectors) / dim
	for t := 1; t < n; t++ {
		v := vectors[t*dim:][:len(dst)]
		if pooling == "mean" {
			kernels.Axpy(1, v, dst)
			continue
		}
		for i, x := range v {
			dst[i] = max(dst[i], x)
		}
	}
	if pooling == "mean" {
		kernels.Scale(1/float32(n), dst, dst)
	}
}

// poolPlanes pools each channel, a plane of that many values, to one.
func poolPlanes(dst, planes []float32, size int, pooling string) {
	for c := range dst {
		plane := planes[c*size : (c+1)*size]
		if pooling == "mean" {
			dst[c] = float32(kernels.Sum(plane) / float64(size))
		} else {
			dst[c] = kernels.Max(plane)
		}
	}
}
