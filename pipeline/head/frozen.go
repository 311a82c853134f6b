package head

import (
	"fmt"
	"sync"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// blockRows is the number of rows of every matrix product of a frozen head;
// a last, shorter block is filled up with zeros. A BLAS picks its code path,
// and with it the order of its sums, by the shape of a product, so one shape
// for all makes a row's bits independent of the batch around it. 48 rows are
// a multiple of the row tiles of the usual kernels (4, 6, 8, 12, 16, 24), so
// that no row falls to a kernel for edges.
const blockRows = 48

// applyViews checks the matrices of an Apply.
func applyViews(dst, x *tensor.Dense, in, out int) (d, s nn.Mat, err error) {
	if s, err = nn.ViewCols(x, in); err != nil {
		return d, s, fmt.Errorf("input: %w", err)
	}
	if d, err = nn.ViewCols(dst, out); err != nil {
		return d, s, fmt.Errorf("destination: %w", err)
	}
	if d.Rows != s.Rows {
		return d, s, fmt.Errorf("the destination has %d rows, the input %d", d.Rows, s.Rows)
	}
	return d, s, nil
}

// frozenSkip is a SkipConnection head for inference.
type frozenSkip struct {
	dim    int
	layers []frozenLayer
	blocks sync.Pool // of *skipBlocks
}

// frozenLayer holds W transposed: products of untransposed matrices are the
// ones that sum in the same order for every row.
type frozenLayer struct {
	weight     nn.Mat
	bias, gate []float32
}

// skipBlocks is the scratch of one Apply.
type skipBlocks struct{ x, y, z nn.Mat }

func (h *skip) Freeze() Frozen {
	f := &frozenSkip{dim: h.dim}
	for _, l := range h.layers {
		w := nn.Mat{Rows: h.dim, Cols: h.dim, Data: make([]float32, h.dim*h.dim)}
		nn.Transpose(w, l.weight.Mat())
		fl := frozenLayer{weight: w, bias: append([]float32(nil), l.bias.Values()...), gate: make([]float32, h.dim)}
		nn.Sigmoids(fl.gate, l.gate.Values())
		f.layers = append(f.layers, fl)
	}
	f.blocks.New = func() any {
		m := func() nn.Mat { return nn.Mat{Rows: blockRows, Cols: h.dim, Data: make([]float32, blockRows*h.dim)} }
		return &skipBlocks{m(), m(), m()}
	}
	return f
}

func (f *frozenSkip) In() int  { return f.dim }
func (f *frozenSkip) Out() int { return f.dim }

func (f *frozenSkip) Apply(dst, x *tensor.Dense) error {
	d, s, err := applyViews(dst, x, f.dim, f.dim)
	if err != nil {
		return err
	}
	b := f.blocks.Get().(*skipBlocks)
	defer f.blocks.Put(b)
	for lo := 0; lo < s.Rows; lo += blockRows {
		hi := min(lo+blockRows, s.Rows)
		n := copy(b.x.Data, s.Data[lo*f.dim:hi*f.dim])
		clear(b.x.Data[n:])
		in, out := b.x, b.y
		for _, l := range f.layers {
			nn.Gemm(nn.AsIs, nn.AsIs, 1, in, l.weight, 0, b.z)
			nn.GatedAdd(out, in, b.z, l.bias, l.gate)
			in, out = out, in
		}
		copy(d.Data[lo*f.dim:hi*f.dim], in.Data)
	}
	return nil
}
