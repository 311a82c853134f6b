// Package kernels is float32 arithmetic at the machine's speed without C:
// matrix products and the element-wise functions that training and encoding
// spend their time in.
//
// # Rounding
//
// Every result is a function of the operands that belong to it, and of
// nothing else: not of the number of rows or columns around it, of its place
// in memory, or of the number of goroutines. A caller may therefore cut a
// batch as it likes and get the same bits.
//
// An element of a matrix product is one chain of fused multiply-adds over k,
// in order, each rounded once:
//
//	s := beta*c[i,j]                       // 0 if beta is 0
//	for p := range k {
//		s = fma(alpha*a[i,p], b[p,j], s)   // alpha*a is rounded first
//	}
//	c[i,j] = s
//
// Blocks of k split the work, not the chain: a partial s is kept in c as it
// is. Zeros are multiplied like other numbers, so an infinity or a NaN in an
// operand reaches every element that it belongs to. With alpha 0, or k 0, the
// operands are not read.
//
// An element-wise function takes the same fused multiply-adds for a value
// wherever it stands; what it promises is in units of the last place of the
// correctly rounded result, for every float32. A sum or an inner product of a
// vector has an order that depends on its length alone.
//
// A product in 8 bits ([GemmInt8]) sums whole numbers, and rounds as its
// comment says.
//
// There are two numeric profiles. With AVX2 and FMA (any amd64 processor
// since about 2015) the results are those above, bit for bit; AVX-512 is used
// where it is faster, and gives the same bits, since every element goes through
// the same operations. In the portable profile, everywhere else and under the
// build tag purego, a multiply-add may round twice, sums run from first to
// last, and element-wise functions are those of package math, rounded.
// Products in 8 bits have the same bits in both. GODEBUG=cpu.avx512f=off or
// cpu.avx2=off in the environment keeps a process from those vectors, for
// comparison.
//
// # Goroutines
//
// A product that is large enough is shared among goroutines, at most the
// limit given by the caller, and no more than there are processors that no
// other product of this package has taken: n goroutines that each ask for a
// product get one processor each instead of n times n goroutines. One operand
// is packed once for all of them; rows of the other are handed out in parts
// that become smaller to the end. Nothing is allocated once the buffers of the
// first products exist.
//
// # Errors
//
// Operands that do not fit are a programmer's error and panic, as in gonum's
// blas packages.
package kernels

//go:generate go -C gen run . -set gemm -out ../tile_amd64.s -stubs ../tile_amd64.go -pkg kernels
//go:generate go -C gen run . -set gemm512 -out ../tile512_amd64.s -stubs ../tile512_amd64.go -pkg kernels
//go:generate go -C gen run . -set maps -out ../maps_amd64.s -stubs ../maps_amd64.go -pkg kernels
//go:generate go -C gen run . -set reduces -out ../reduces_amd64.s -stubs ../reduces_amd64.go -pkg kernels
//go:generate go -C gen run . -set halves -out ../halves_amd64.s -stubs ../halves_amd64.go -pkg kernels
//go:generate go -C gen run . -set int8 -out ../bytes_amd64.s -stubs ../bytes_amd64.go -pkg kernels
//go:generate go -C gen run . -set vnni -out ../bytes512_amd64.s -stubs ../bytes512_amd64.go -pkg kernels
