package sampler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/source"
)

// Subset declares that only some samples are trained on: those with certain
// values of a column, a fraction of all, or a fraction of those. They are the
// same in every epoch. Their numbers take 8 bytes each.
type Subset struct {
	// Column is a column of texts, integers or booleans, such as label or a
	// kept one. Default: none.
	Column string
	// Values are those of Column with which a row is taken.
	Values Values
	// Fraction of the rows is taken, above 0 and up to 1: which of them is
	// drawn by the seed. Default: 1.
	Fraction float64
	// Of samples those rows. Default: nil, every one once in an epoch.
	Of Config
}

// Values are values of a column as they are printed.
type Values []string

// UnmarshalJSON takes texts, numbers and booleans.
func (v *Values) UnmarshalJSON(b []byte) error {
	var list []any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // or large ones would be rounded
	if err := d.Decode(&list); err != nil {
		return errors.New("want a list of values")
	}
	for _, x := range list {
		switch x.(type) {
		case string, json.Number, bool:
			*v = append(*v, fmt.Sprint(x))
		default:
			return errors.New("want a list of texts, numbers or booleans")
		}
	}
	return nil
}

// Type is "subset".
func (Subset) Type() string { return "subset" }

// Params are column, values, fraction and of.
func (c Subset) Params() map[string]any {
	return map[string]any{"column": c.Column, "values": c.Values, "fraction": c.fraction(), "of": Declared(c.Of)}
}

// UnmarshalJSON takes what Params give.
func (c *Subset) UnmarshalJSON(b []byte) error {
	p, err := strictjson.Decode[struct {
		Column   string  `json:"column"`
		Values   Values  `json:"values"`
		Fraction float64 `json:"fraction"`
		Of       of      `json:"of"`
	}](b)
	*c = Subset{Column: p.Column, Values: p.Values, Fraction: p.Fraction, Of: p.Of.Config}
	return err
}

func (c Subset) fraction() float64 {
	if c.Fraction == 0 {
		return 1
	}
	return c.Fraction
}

// Splits are those of Of.
func (c Subset) Splits() []string { return splits(c.Of) }

// Columns are that of the values, and those of Of.
func (c Subset) Columns() []string {
	if c.Column == "" {
		return columns(c.Of)
	}
	return append([]string{c.Column}, columns(c.Of)...)
}

// Validate reports a fraction out of range, a column without values or values
// without a column, nothing to choose by, and options of Of.
func (c Subset) Validate(b Batching) error {
	switch {
	case !(c.fraction() > 0 && c.fraction() <= 1):
		return fmt.Errorf("fraction is %v, not above 0 and up to 1", c.Fraction)
	case (c.Column == "") != (len(c.Values) == 0):
		return errors.New("column and values go together")
	case c.Column == "" && c.fraction() == 1:
		return errors.New("name a column with values, or a fraction")
	}
	return validate(c.Of, b)
}

// New returns the sampler of the rows that are taken; none is an error.
func (c Subset) New(b Batching, s Split) (source.Sampler, error) {
	taken, err := c.rows(s)
	if err != nil {
		return nil, err
	}
	if n := int64(len(taken)); c.fraction() < 1 {
		p := source.NewPermutation(n, b.Seed, -1) // no epoch has this one
		drawn := make([]int64, int64(math.Ceil(c.Fraction*float64(n))))
		p.Fill(drawn, 0)
		slices.Sort(drawn)
		for i, at := range drawn {
			drawn[i] = taken[at]
		}
		taken = drawn
	}
	s.Rows = taken
	return New(c.Of, b, s)
}

// rows returns those with one of the values.
func (c Subset) rows(s Split) ([]int64, error) {
	out := make([]int64, 0, s.sampled())
	has := func(int) bool { return true }
	if c.Column != "" {
		col, err := s.Column(c.Column)
		if err != nil {
			return nil, err
		}
		if has, err = c.matches(col); err != nil {
			return nil, err
		}
	}
	for i := range s.sampled() {
		if row := s.row(i); has(int(row)) {
			out = append(out, row)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no row has one of the values %s in the column %q", strings.Join(c.Values, ", "), c.Column)
	}
	return slices.Clip(out), nil
}

// matches returns whether a row of a column has one of the values.
func (c Subset) matches(col arrow.Array) (func(row int) bool, error) {
	switch a := col.(type) {
	case *array.String:
		wanted := map[string]bool{}
		for _, v := range c.Values {
			wanted[v] = true
		}
		return func(row int) bool { return a.IsValid(row) && wanted[a.Value(row)] }, nil
	case *array.Int64:
		wanted := map[int64]bool{}
		for _, v := range c.Values {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("column %q is of integers, and %q is none", c.Column, v)
			}
			wanted[n] = true
		}
		return func(row int) bool { return a.IsValid(row) && wanted[a.Value(row)] }, nil
	case *array.Boolean:
		return func(row int) bool {
			return a.IsValid(row) && slices.Contains(c.Values, strconv.FormatBool(a.Value(row)))
		}, nil
	}
	return nil, fmt.Errorf("column %q is of type %v, not of texts, integers or booleans", c.Column, col.DataType())
}
