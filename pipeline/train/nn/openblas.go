//go:build openblas

package nn

// #cgo LDFLAGS: -lopenblas
import "C"

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/netlib/blas/netlib"
)

// linked is the BLAS that this build uses instead of the kernels.
var linked = func() *blas.Float32 {
	var b blas.Float32 = netlib.Implementation{}
	return &b
}()
