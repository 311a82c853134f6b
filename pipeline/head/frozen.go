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

// frozenStage is a stage for inference. It is called for blockRows rows each
// time, and safe for concurrent use.
type frozenStage interface {
	out() int
	// apply writes the output for x to y. z is scratch of y's shape.
	apply(y, x, z nn.Mat)
}

// frozenChain is a chain for inference.
type frozenChain struct {
	in, width int // width is that of the widest stage
	stages    []frozenStage
	blocks    sync.Pool // of *chainBlocks
}

// chainBlocks is the scratch of one Apply.
type chainBlocks struct{ x, y, z []float32 }

func (c *chain) Freeze() Frozen {
	f := &frozenChain{in: c.in, width: c.in}
	for _, s := range c.stages {
		if fs := s.freeze(); fs != nil {
			f.stages = append(f.stages, fs)
			f.width = max(f.width, fs.out())
		}
	}
	f.blocks.New = func() any {
		block := func() []float32 { return make([]float32, blockRows*f.width) }
		return &chainBlocks{block(), block(), block()}
	}
	return f
}

func (f *frozenChain) In() int { return f.in }

func (f *frozenChain) Out() int {
	if n := len(f.stages); n > 0 {
		return f.stages[n-1].out()
	}
	return f.in
}

func (f *frozenChain) Apply(dst, x *tensor.Dense) error {
	out := f.Out()
	d, s, err := applyViews(dst, x, f.in, out)
	if err != nil {
		return err
	}
	b := f.blocks.Get().(*chainBlocks)
	defer f.blocks.Put(b)
	for lo := 0; lo < s.Rows; lo += blockRows {
		hi := min(lo+blockRows, s.Rows)
		from, to := b.x, b.y
		in := block(from, f.in)
		clear(in.Data[copy(in.Data, s.Data[lo*f.in:hi*f.in]):])
		for _, s := range f.stages {
			y := block(to, s.out())
			s.apply(y, in, block(b.z, s.out()))
			in, from, to = y, to, from
		}
		copy(d.Data[lo*out:hi*out], in.Data)
	}
	return nil
}

func block(data []float32, cols int) nn.Mat {
	return nn.Mat{Rows: blockRows, Cols: cols, Data: data[:blockRows*cols]}
}

// transposed is a copy of W [out, in] as [in, out]: products of untransposed
// matrices are the ones that sum in the same order for every row.
func transposed(w nn.Mat) nn.Mat {
	t := nn.Mat{Rows: w.Cols, Cols: w.Rows, Data: make([]float32, len(w.Data))}
	nn.Transpose(t, w)
	return t
}
