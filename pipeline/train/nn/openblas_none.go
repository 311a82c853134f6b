//go:build !openblas

package nn

import "gonum.org/v1/gonum/blas"

// linked is the BLAS that a build uses instead of the kernels: none.
var linked *blas.Float32
