package sampler

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/internal/classes"
	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/source"
)

// Config declares a sampler. Every option's zero value is its default.
type Config interface {
	// Type is the sampler's name in configuration files.
	Type() string
	// Params are the options with defaults filled in, under their names in
	// configuration files; [Parse] takes them back.
	Params() map[string]any
	// Splits are the names of the splits that it samples, one after the other;
	// none for the one that is trained on.
	Splits() []string
	// Columns are the names of those that it reads.
	Columns() []string
	// Validate reports options out of range, and those that do not go with the
	// batches.
	Validate(b Batching) error
	// New returns the sampler of a split.
	New(b Batching, s Split) (source.Sampler, error)
}

// Batching says what batches have in common.
type Batching struct {
	// Size is the number of samples in a batch, above 0.
	Size int
	// DropLast leaves out a last batch that is smaller. Default: false.
	DropLast bool
	// Sequential keeps samples in the order of the split. Default: false, they
	// are shuffled.
	Sequential bool
	// Seed chooses the orders. Default: 0.
	Seed uint64
	// Distinct keeps equal objects out of a batch. Default: false.
	Distinct bool
}

// Split is what is sampled: the rows of a split, or of several, numbered one
// split after the other. Its functions are for the length of New.
type Split struct {
	// Parts are the splits, in order.
	Parts []Part
	// Column returns a column of all rows, borrowed until New returns.
	Column func(name string) (arrow.Array, error)
	// Objects returns, for each side of the samples, the numbers of the rows'
	// objects: equal ones for equal objects. What it returns is the sampler's.
	Objects func() ([][]int64, error)
	// Rows are those that are sampled, in ascending order. Default: nil, all.
	Rows []int64
}

// Part is one of the splits that are sampled.
type Part struct {
	Name string
	Rows int64
}

// New returns the sampler that c declares; that of nil is every sample once in
// an epoch.
func New(c Config, b Batching, s Split) (source.Sampler, error) {
	if c != nil {
		return c.New(b, s)
	}
	order := source.Shuffled(s.sampled(), b.Seed)
	if b.Sequential {
		order = source.Sequential(s.sampled())
	}
	return s.batches(b, order)
}

// sampled is the number of rows that are.
func (s Split) sampled() int64 {
	if s.Rows != nil {
		return int64(len(s.Rows))
	}
	n := int64(0)
	for _, p := range s.Parts {
		n += p.Rows
	}
	return n
}

// row is the number of one of them.
func (s Split) row(i int64) int64 {
	if s.Rows != nil {
		return s.Rows[i]
	}
	return i
}

// batches puts an order of the sampled rows in batches.
func (s Split) batches(b Batching, o source.Order) (source.Sampler, error) {
	if s.Rows != nil {
		o = source.Selected(o, s.Rows)
	}
	if !b.Distinct {
		return source.Batches(o, b.Size, b.DropLast)
	}
	objects, err := s.Objects()
	if err != nil {
		return nil, err
	}
	return source.Distinct(o, objects, b.Size, b.DropLast)
}

// classes numbers the values of a column.
func (s Split) classes(column string) (numbers []int32, names []string, err error) {
	col, err := s.Column(column)
	if err != nil {
		return nil, nil, err
	}
	if numbers, names, err = classes.Number(col); err != nil {
		err = fmt.Errorf("column %q: %w", column, err)
	}
	return numbers, names, err
}

// validate is Validate of the sampler that another one stands before.
func validate(of Config, b Batching) error {
	if of == nil {
		return nil
	}
	if err := of.Validate(b); err != nil {
		return fmt.Errorf("of %s: %w", of.Type(), err)
	}
	return nil
}

// splits is Splits of the sampler that another one stands before.
func splits(of Config) []string {
	if of == nil {
		return nil
	}
	return of.Splits()
}

// columns is Columns of the sampler that another one stands before.
func columns(of Config) []string {
	if of == nil {
		return nil
	}
	return of.Columns()
}

// errOrder is for samplers that have an order of their own.
var errOrder = errors.New("its order is random: it does not go with shuffle: false")

// ErrType is returned by [Parse] for an unknown type.
var ErrType = errors.New("unknown sampler type")

// parsers read the options of the samplers of this package, by type.
func parsers() map[string]func(json.RawMessage) (Config, error) {
	return map[string]func(json.RawMessage) (Config, error){
		GroupBalanced{}.Type(): parse[GroupBalanced],
		Weighted{}.Type():      parse[Weighted],
		Mixed{}.Type():         parse[Mixed],
		Subset{}.Type():        parse[Subset],
		NoDuplicates{}.Type():  parse[NoDuplicates],
	}
}

func parse[C Config](params json.RawMessage) (Config, error) { return strictjson.Decode[C](params) }

// Types are the types that [Parse] knows, sorted.
func Types() []string { return slices.Sorted(maps.Keys(parsers())) }

// Parse returns the sampler declared by a type and the JSON object of its
// options, as [Config.Params] prints them; empty params are all defaults. An
// unknown option is an error.
func Parse(typ string, params json.RawMessage) (Config, error) {
	of, ok := parsers()[typ]
	if !ok {
		return nil, fmt.Errorf("%w %q (known: %s)", ErrType, typ, strings.Join(Types(), ", "))
	}
	c, err := of(params)
	if err != nil {
		return nil, fmt.Errorf("sampler %s: %w", typ, err)
	}
	return c, nil
}

// Declared is a sampler as configuration files have it: its options, and its
// type as "type"; nil for nil.
func Declared(c Config) map[string]any {
	if c == nil {
		return nil
	}
	d := c.Params()
	d["type"] = c.Type()
	return d
}

// of is a sampler in the options of another one.
type of struct{ Config }

// UnmarshalJSON takes what [Declared] gives.
func (o *of) UnmarshalJSON(b []byte) error {
	var params map[string]json.RawMessage
	if err := json.Unmarshal(b, &params); err != nil || params == nil {
		return err
	}
	var typ string
	if err := json.Unmarshal(params["type"], &typ); err != nil {
		return errors.New("of: no type is given")
	}
	delete(params, "type")
	rest, err := json.Marshal(params)
	if err == nil {
		o.Config, err = Parse(typ, rest)
	}
	return err
}
