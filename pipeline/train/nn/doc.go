// Package nn holds what heads, losses and optimizers share: named parameters
// with their gradients, reusable matrices, and the arithmetic on them.
//
// Everything is float32 on gorgonia.org/tensor matrices, row-major and
// contiguous, one row a sample. Matrix products are in Go assembly; [BLAS]
// hands them to other code, and [UseBLAS] replaces them. Element-wise loops
// are in kernels.go, exponentials and sums of theirs in assembly, too. Results
// do not depend on GOMAXPROCS: work is split by rows or columns whose results
// do not depend on each other, and every sum is taken in index order.
//
// Tensors of this package, and all that heads, losses and pipelines hand out,
// have [Engine], so that a user's own tensor operations run in this arithmetic
// without another type of tensor:
//
//	scores, err := tensor.MatMul(b.A("content_encoder"), weights)
//	p, err := tensor.SoftMax(scores, 1)
//
// # OpenBLAS
//
// With the build tag openblas, OpenBLAS computes the matrix products of this
// package, by way of gonum's netlib. It needs cgo, a C compiler and the
// library (Debian: libopenblas-dev):
//
//	go build -tags openblas ./cmd/pipeline
//
// Where the library lies elsewhere, CGO_LDFLAGS=-L<folder> names the place.
// OPENBLAS_NUM_THREADS limits its threads. It is there to compare with;
// training gives other bits, which may depend on the number of threads.
// Encoders call the module's kernels under every tag: embeddings and their
// fingerprints are the same.
package nn
