package source

// Order is the sequence in which rows come in each epoch: a pure function of
// the epoch and the position, so that a sequence can be gone on with anywhere.
// It is immutable, and safe for concurrent use.
type Order interface {
	// Len is the number of rows of every epoch. A row that comes twice counts
	// twice.
	Len() int64
	// Epoch returns the order of an epoch.
	Epoch(epoch int) Fill
}

// Fill sets dst to the rows at the positions first, first+1, ..., which are all
// within the order. It is for one goroutine at a time, and allocates nothing.
type Fill func(dst []int64, first int64)

// Sequential is the order of the table, in every epoch: the rows 0..n-1. Where
// n is negative, there are none.
func Sequential(n int64) Order { return sequential(max(n, 0)) }

type sequential int64

func (s sequential) Len() int64 { return int64(s) }

func (s sequential) Epoch(int) Fill {
	return func(dst []int64, first int64) {
		for i := range dst {
			dst[i] = first + int64(i)
		}
	}
}

// Shuffled is the order of n rows that [NewPermutation] gives for the seed and
// the epoch. Where n is negative, there are none.
func Shuffled(n int64, seed uint64) Order { return shuffled{max(n, 0), seed} }

type shuffled struct {
	n    int64
	seed uint64
}

func (s shuffled) Len() int64 { return s.n }

func (s shuffled) Epoch(epoch int) Fill {
	p := NewPermutation(s.n, s.seed, epoch)
	return p.Fill
}

// Selected is an order of some rows of a table: where o has the row i, it has
// rows[i]. All rows of o are less than len(rows). It keeps rows, which must
// not change.
func Selected(o Order, rows []int64) Order { return selected{o, rows} }

type selected struct {
	Order
	rows []int64
}

func (s selected) Epoch(epoch int) Fill {
	fill := s.Order.Epoch(epoch)
	return func(dst []int64, first int64) {
		fill(dst, first)
		for i, row := range dst {
			dst[i] = s.rows[row]
		}
	}
}
