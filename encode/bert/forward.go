package bert

import (
	"context"
	"math"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// passTokens is how many tokens go through the layers at once, unless one
// text alone has more: enough that the products' speed has levelled off, few
// enough that what lies between them stays in the caches.
const passTokens = 256

// maxBlock bounds the values of a block of the intermediate layer, which for a
// wide one is computed in several.
const maxBlock = 1 << 19

// blockRows is the number of rows of that width in a block.
func blockRows(width int) int { return min(max(1, maxBlock/width), passTokens) }

// scratch is the memory of a pass. It grows to the largest pass.
type scratch struct {
	x     []float32 // tokens rows of hidden values
	wide  []float32 // rows of queries, keys and values, or a block of the intermediate layer
	spare []float32 // the heads' output, or scratch of an activation
	bias  []float32 // of relative positions: for each head, by distance

	attention kernels.Attention
}

func grown(x []float32, n int) []float32 {
	if n > cap(x) {
		return make([]float32, n)
	}
	return x[:n]
}

// forward runs the layers over texts whose ids lie end to end; ends[i] is
// where text i ends. The result, a row of hidden values per token, is in s.x.
func (n *network) forward(ctx context.Context, s *scratch, ids []int32, ends []int) error {
	a, tokens := n.arch, len(ids)
	h := a.hidden
	longest, start := 0, 0
	for _, end := range ends {
		longest = max(longest, end-start)
		start = end
	}
	block := min(tokens, blockRows(a.intermediate)) * a.intermediate
	s.x = grown(s.x, tokens*h)
	s.wide = grown(s.wide, max(tokens*3*h, block))
	s.spare = grown(s.spare, max(tokens*h, block))
	if n.relative != nil {
		n.relativeBias(s, longest)
	}
	n.embed(s.x, ids, ends)
	for i := range n.layers {
		l := &n.layers[i]
		qkv, heads := s.wide[:tokens*3*h], s.spare[:tokens*h]
		l.qkv.apply(qkv, s.x, tokens)
		start := 0
		for _, end := range ends {
			if err := ctx.Err(); err != nil {
				return err
			}
			n.attend(s, heads[start*h:end*h], qkv[start*3*h:end*3*h], end-start, longest)
			start = end
		}
		// A sum that began with the residual would round each term to the
		// residual's last place: so it is added at the end.
		out := s.wide[:tokens*h]
		l.attention.apply(out, heads, tokens)
		l.norm1.applySum(s.x, out)
		n.feed(s, l, tokens)
	}
	return nil
}

// feed adds the feed-forward network's output to s.x and normalizes that, some
// rows at a time.
func (n *network) feed(s *scratch, l *layer, tokens int) {
	h, width := n.arch.hidden, n.arch.intermediate
	step := blockRows(width)
	for at := 0; at < tokens; at += step {
		rows := min(step, tokens-at)
		x, up := s.x[at*h:(at+rows)*h], s.wide[:rows*width]
		l.up.apply(up, x, rows)
		n.arch.act.apply(up, s.spare)
		out := s.spare[:rows*h]
		l.down.apply(out, up, rows)
		l.norm2.applySum(x, out)
	}
}

// embed writes the sum of word, position and type of each token, normalized.
func (n *network) embed(x []float32, ids []int32, ends []int) {
	h, at := n.arch.hidden, 0
	for _, end := range ends {
		place := n.arch.firstPos
		for ; at < end; at++ {
			row, p := x[at*h:(at+1)*h], place
			if int(ids[at]) == n.arch.padding {
				p = n.arch.padding
			} else {
				place++
			}
			copy(row, n.words[int(ids[at])*h:])
			kernels.Axpy(1, n.places[p*h:(p+1)*h], row)
		}
	}
	n.embedding.apply(x)
}

// attend writes the attention of one text of that many tokens to out, all
// heads side by side. In a row of qkv are the queries of all heads, which it
// scales, then the keys, then the values.
func (n *network) attend(s *scratch, out, qkv []float32, tokens, longest int) {
	h, d := n.arch.hidden, n.arch.head()
	scale := float32(1 / math.Sqrt(float64(d)))
	for i := range tokens {
		q := qkv[i*3*h:][:h]
		kernels.Scale(scale, q, q)
	}
	for at := 0; at < h; at += d {
		var bias []float32
		if n.relative != nil {
			bias = s.bias[at/d*(2*longest-1)+longest-tokens:]
		}
		s.attention.Head(tokens, d, qkv[at:], qkv[h+at:], qkv[2*h+at:], 3*h, bias, out[at:], h)
	}
}

// relativeBias writes, for each head, the bias of a key that lies distance
// tokens behind the query to column distance + longest - 1.
func (n *network) relativeBias(s *scratch, longest int) {
	heads, width := n.arch.heads, 2*longest-1
	s.bias = grown(s.bias, heads*width)
	for i := range width {
		row := n.relative[bucket(i-(longest-1), n.arch.buckets)*heads:][:heads]
		for head, v := range row {
			s.bias[head*width+i] = v
		}
	}
}

// bucket is the class of a relative position, key minus query: half of the
// buckets are for keys behind the query. In each half, half of the buckets
// are for one distance each, the others for distances up to 128 that grow
// exponentially.
func bucket(distance, buckets int) int {
	const farthest = 128
	half := buckets / 2
	base, exact := 0, half/2
	if distance > 0 {
		base = half
	} else {
		distance = -distance
	}
	if distance < exact {
		return base + distance
	}
	// In float32, where the reference rounds too.
	log := float32(math.Log(float64(float32(distance)/float32(exact)))) / float32(math.Log(float64(farthest)/float64(exact)))
	return base + min(exact+int(log*float32(half-exact)), half-1)
}
