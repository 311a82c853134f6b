package source

import "math/bits"

// Permutation is the order of rows in an epoch: a bijection of 0..n-1 that is
// computed index by index and needs no table. It is a pure function of (n,
// seed, epoch) in integer arithmetic, the same on every machine and in every
// version. It is a value, and safe for concurrent use.
//
// It is a balanced Feistel network over the smallest domain of 4^k numbers
// that holds n; a number outside of 0..n-1 is put through again until it falls
// inside (cycle walking), four times at most on average. Over a domain of 16
// or more such a network only makes even permutations, which would show in the
// orders of any n; a last key bit, which swaps 0 and 1, evens that out.
type Permutation struct {
	n      uint64
	half   uint // bits in each half of the network
	rounds int
	swap   uint64 // 1 where the numbers 0 and 1 are swapped
	keys   [maxRounds]uint64
}

const maxRounds = 24

// NewPermutation returns the order of n rows in an epoch. Where n is negative,
// there are none.
func NewPermutation(n int64, seed uint64, epoch int) Permutation {
	p := Permutation{n: uint64(max(n, 0)), half: 1}
	if n > 1 {
		p.half = max(1, uint(bits.Len64(p.n-1)+1)/2)
	}
	// A round moves as much randomness as a half has bits, so small domains
	// need more of them to be uniform.
	switch {
	case p.half <= 4:
		p.rounds = maxRounds
	case p.half <= 7:
		p.rounds = 12
	default:
		p.rounds = 6
	}
	state := mix(epochState(seed, epoch) ^ p.n*golden)
	for i := range p.rounds {
		p.keys[i] = mix(state + uint64(i+1)*golden)
	}
	if n > 1 {
		p.swap = mix(state) >> 63
	}
	return p
}

// At returns the row at position i of the order. It is i itself for an i that
// is not within 0..n-1.
func (p *Permutation) At(i int64) int64 {
	x := uint64(i)
	if x >= p.n {
		return i
	}
	for {
		if x = p.network(x); x < p.n {
			break
		}
	}
	if x < 2 {
		x ^= p.swap
	}
	return int64(x)
}

// Fill sets dst to the rows at positions first, first+1, ..., as [Permutation.At]
// does but faster.
func (p *Permutation) Fill(dst []int64, first int64) {
	if first < 0 || uint64(first)+uint64(len(dst)) > p.n {
		for i := range dst {
			dst[i] = p.At(first + int64(i))
		}
		return
	}
	for len(dst) > 0 {
		m := min(len(dst), fillBlock)
		p.fill(dst[:m], first)
		dst, first = dst[m:], first+int64(m)
	}
}

const fillBlock = 256

// fill is At for at most fillBlock positions. It puts all numbers through the
// network before it does so again with those outside, because a loop without
// unforeseeable branches takes a fraction of the time.
func (p *Permutation) fill(dst []int64, first int64) {
	var outside [fillBlock]uint8
	left := 0
	for i := range dst {
		x := p.network(uint64(first) + uint64(i))
		dst[i] = int64(x)
		outside[left] = uint8(i)
		if x >= p.n {
			left++
		}
	}
	for left > 0 {
		still := 0
		for _, i := range outside[:left] {
			x := p.network(uint64(dst[i]))
			dst[i] = int64(x)
			outside[still] = i
			if x >= p.n {
				still++
			}
		}
		left = still
	}
	for i, x := range dst {
		if x < 2 {
			dst[i] = x ^ int64(p.swap)
		}
	}
}

func (p *Permutation) network(x uint64) uint64 {
	shift := (64 - p.half) & 63 // the mask tells the compiler that it is small
	left, right := x>>(p.half&63), x&(1<<(p.half&63)-1)
	for _, key := range p.keys[:p.rounds] {
		f := (right ^ key) * mixA
		f = (f ^ f>>32) * mixB
		left, right = right, left^f>>shift
	}
	return left<<(p.half&63) | right
}

// passes are the permutations of a sequence that goes through n rows again and
// again. It remembers the last two, and is for one goroutine.
type passes struct {
	n      int64
	seed   uint64
	known  [2]uint64 // their numbers and 1
	orders [2]Permutation
}

func (p *passes) pass(number uint64) *Permutation {
	k := number & 1
	if p.known[k] != number+1 {
		p.known[k], p.orders[k] = number+1, NewPermutation(p.n, p.seed, int(number))
	}
	return &p.orders[k]
}

// The constants of SplitMix64: Steele, Lea and Flood, "Fast Splittable
// Pseudorandom Number Generators", 2014.
const (
	golden = 0x9e3779b97f4a7c15
	mixA   = 0xbf58476d1ce4e5b9
	mixB   = 0x94d049bb133111eb
)

// epochState is what the random numbers of an epoch are drawn from.
func epochState(seed uint64, epoch int) uint64 {
	return mix(mix(seed+golden) ^ (uint64(int64(epoch))+1)*golden)
}

// mix is the output function of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * mixA
	x = (x ^ x>>27) * mixB
	return x ^ x>>31
}
