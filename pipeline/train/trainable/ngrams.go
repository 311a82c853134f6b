package trainable

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// NgramBag declares a bag of hashed character n-grams (Bojanowski and others
// 2017, "Enriching word vectors with subword information", over whole texts):
// a text is put in small letters and cut at white space, each word w becomes
// <w>, and its substrings of MinN to MaxN characters, or all of it where it is
// shorter, choose rows of a table by their hash (FNV-1a of 64 bits, modulo
// Buckets). The output is their mean or sum; that of a text without words is
// 0. The parameter "weight" [Buckets, Dim] is first drawn from N(0, 1/Dim).
//
// Its gradient is dense: an optimizer changes all rows at each step, as for
// PyTorch's EmbeddingBag with sparse=False, so momentum also moves rows that
// a batch does not have. A step takes time and memory in proportion to
// Buckets·Dim.
type NgramBag struct {
	// Dim is the number of values of an output. Default: 64.
	Dim int `json:"dim"`
	// Buckets is the number of rows of the table. Default: 20,000.
	Buckets int `json:"buckets"`
	// MinN and MaxN bound the characters of an n-gram. Default: 3 and 5.
	MinN int `json:"min_n"`
	MaxN int `json:"max_n"`
	// Mode is "mean" or "sum". Default: "mean".
	Mode string `json:"mode"`
}

// Type is "ngram_bag".
func (NgramBag) Type() string { return "ngram_bag" }

// Params are dim, buckets, min_n, max_n and mode.
func (b NgramBag) Params() map[string]any {
	b = b.withDefaults()
	return map[string]any{"dim": b.Dim, "buckets": b.Buckets, "min_n": b.MinN, "max_n": b.MaxN, "mode": b.Mode}
}

// ReadsTexts is true.
func (NgramBag) ReadsTexts() bool { return true }

func (b NgramBag) withDefaults() NgramBag {
	if b.Dim == 0 {
		b.Dim = 64
	}
	if b.Buckets == 0 {
		b.Buckets = 20_000
	}
	if b.MinN == 0 {
		b.MinN = 3
	}
	if b.MaxN == 0 {
		b.MaxN = max(5, b.MinN)
	}
	if b.Mode == "" {
		b.Mode = modeMean
	}
	return b
}

const (
	modeMean = "mean"
	modeSum  = "sum"
)

// New returns the bag. Options out of range are errors.
func (b NgramBag) New(_ int, rng *rand.Rand) (Encoder, error) {
	b = b.withDefaults()
	switch {
	case b.Dim < 0 || b.Buckets < 0 || b.Buckets > math.MaxInt32:
		return nil, fmt.Errorf("a table of %d rows of %d values is impossible", b.Buckets, b.Dim)
	case b.MinN < 1 || b.MaxN < b.MinN:
		return nil, fmt.Errorf("n-grams of min_n %d to max_n %d characters are impossible", b.MinN, b.MaxN)
	case b.Mode != modeMean && b.Mode != modeSum:
		return nil, fmt.Errorf("mode is %q, not mean or sum", b.Mode)
	}
	e := &bag{NgramBag: b, weight: nn.NewParam("weight", b.Buckets, b.Dim)}
	scale := 1 / math.Sqrt(float64(b.Dim))
	for i := range e.weight.Values() {
		e.weight.Values()[i] = float32(scale * rng.NormFloat64())
	}
	return e, nil
}

type bag struct {
	NgramBag
	weight nn.Param
}

func (e *bag) Dim() int               { return e.NgramBag.Dim }
func (e *bag) Parameters() []nn.Param { return []nn.Param{e.weight} }
func (e *bag) NewPass() Pass          { return &bagPass{bag: e} }

func (e *bag) Freeze() Frozen {
	w := e.weight.Mat()
	w.Data = slices.Clone(w.Data)
	return &frozenBag{e.NgramBag, w}
}

// bagPass keeps the rows of the table of every text, and the factor of their
// sum.
type bagPass struct {
	bag   *bag
	rows  [][]int32
	scale []float32
	out   nn.Buffer
}

var errTexts = errors.New("a bag of n-grams needs texts")

func (p *bagPass) Forward(in Input) (nn.Mat, error) {
	n := len(in.Texts)
	if n == 0 {
		return nn.Mat{}, errTexts
	}
	for len(p.rows) < n {
		p.rows, p.scale = append(p.rows, nil), append(p.scale, 0)
	}
	p.rows, p.scale = p.rows[:n], p.scale[:n]
	out := p.out.Mat(n, p.bag.Dim())
	w := p.bag.weight.Mat()
	nn.Parallel(n, textCost, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			p.rows[i] = p.bag.grams(p.rows[i][:0], in.Texts[i])
			p.scale[i] = p.bag.sum(out.Row(i), w, p.rows[i])
		}
	})
	return out, nil
}

// textCost stands for the work on a text, in values.
const textCost = 1 << 12

func (p *bagPass) Backward(dy nn.Mat) error {
	if dy.Rows != len(p.rows) || dy.Cols != p.bag.Dim() {
		return fmt.Errorf("the gradient is of shape [%d, %d], the output had [%d, %d]", dy.Rows, dy.Cols, len(p.rows), p.bag.Dim())
	}
	grad := p.bag.weight.GradMat()
	// Texts share rows of the table: each goroutine takes columns, so that
	// every sum has one order.
	nn.Parallel(dy.Cols, dy.Rows*textCost/dy.Cols, func(lo, hi int) {
		for i, rows := range p.rows {
			d := dy.Row(i)[lo:hi]
			for _, r := range rows {
				kernels.Axpy(p.scale[i], d, grad.Row(int(r))[lo:hi])
			}
		}
	})
	return nil
}

type frozenBag struct {
	NgramBag
	weight nn.Mat
}

func (f *frozenBag) Dim() int { return f.NgramBag.Dim }

func (f *frozenBag) Apply(dst nn.Mat, in Input) error {
	if dst.Rows != len(in.Texts) || dst.Cols != f.Dim() {
		return errTexts
	}
	nn.Parallel(dst.Rows, textCost, func(lo, hi int) {
		var rows []int32
		for i := lo; i < hi; i++ {
			rows = f.grams(rows[:0], in.Texts[i])
			f.sum(dst.Row(i), f.weight, rows)
		}
	})
	return nil
}

// sum writes the output of some rows of the table and returns the factor of
// their sum.
func (b NgramBag) sum(dst []float32, w nn.Mat, rows []int32) float32 {
	clear(dst)
	scale := float32(1)
	if b.Mode == modeMean && len(rows) > 0 {
		scale = 1 / float32(len(rows))
	}
	for _, r := range rows {
		kernels.Axpy(scale, w.Row(int(r)), dst)
	}
	return scale
}

// grams appends the rows of a text's n-grams, word by word.
func (b NgramBag) grams(rows []int32, text string) []int32 {
	var starts []int // of the characters of a word
	for word := range strings.FieldsSeq(strings.ToLower(text)) {
		word = "<" + word + ">"
		starts = starts[:0]
		for at := 0; at < len(word); {
			starts = append(starts, at)
			_, size := utf8.DecodeRuneInString(word[at:])
			at += size
		}
		starts = append(starts, len(word))
		chars := len(starts) - 1
		if chars <= b.MinN {
			rows = append(rows, b.row(word))
			continue
		}
		for from := range chars {
			for to := from + b.MinN; to <= min(from+b.MaxN, chars); to++ {
				rows = append(rows, b.row(word[starts[from]:starts[to]]))
			}
		}
	}
	return rows
}

// row is the row of an n-gram.
func (b NgramBag) row(gram string) int32 {
	h := uint64(14695981039346656037)
	for i := range len(gram) {
		h = (h ^ uint64(gram[i])) * 1099511628211
	}
	return int32(h % uint64(b.Buckets))
}
