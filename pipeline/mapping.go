package pipeline

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/source"
)

// mapping makes samples of rows by the names of columns.
type mapping struct {
	A        map[string]string `json:"a"` // field -> column
	B        map[string]string `json:"b,omitempty"`
	Label    string            `json:"label,omitempty"`
	Score    string            `json:"score,omitempty"`
	Subgroup string            `json:"subgroup,omitempty"`
	Keep     []string          `json:"keep,omitempty"`
}

// sample implements Config.Sample.
func (m *mapping) sample(row source.Fields) Sample {
	a, err := m.object(row, m.A)
	if err != nil {
		return Bad(err)
	}
	var s Sample
	if m.Label != "" {
		label, ok := row[m.Label]
		if !ok || label == nil {
			return Bad(missing(row, m.Label))
		}
		s = Group(a, label)
	} else {
		b, err := m.object(row, m.B)
		if err != nil {
			return Bad(err)
		}
		s = Pair(a, b)
		if m.Score != "" {
			v, err := m.number(row, m.Score)
			if err != nil {
				return Bad(err)
			}
			s.Score = v
		}
		if m.Subgroup != "" {
			if s.Subgroup = row[m.Subgroup]; s.Subgroup == nil {
				return Bad(missing(row, m.Subgroup))
			}
		}
	}
	for _, name := range m.Keep {
		v, ok := row[name]
		if !ok {
			v = nil
		}
		if raw, ok := v.(json.RawMessage); ok {
			v = string(raw)
		}
		s = s.With(name, v)
	}
	return s
}

// columns are the names of all columns that a sample is made of.
func (m *mapping) columns() []string { return append(m.needed(), m.Keep...) }

// leastJSON is the fewest bytes that a JSON object has of which a sample can be
// made: {"name":1,"other":1}.
func (m *mapping) leastJSON() int64 {
	names := m.needed()
	slices.Sort(names)
	n := int64(1)
	for _, name := range slices.Compact(names) {
		n += int64(len(name)) + 5
	}
	return n
}

// needed are the names of the columns without which there is no sample.
func (m *mapping) needed() []string {
	var names []string
	for _, fields := range []map[string]string{m.A, m.B} {
		names = slices.AppendSeq(names, maps.Values(fields))
	}
	for _, name := range []string{m.Label, m.Score, m.Subgroup} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

func missing(row source.Fields, column string) error {
	if _, ok := row[column]; ok {
		return fmt.Errorf("%w: column %q is null", encode.ErrField, column)
	}
	return fmt.Errorf("%w: column %q (the row has %q)", encode.ErrField, column, slices.Sorted(maps.Keys(row)))
}

func (m *mapping) object(row source.Fields, fields map[string]string) (encode.Object, error) {
	vals := make(map[string]encode.Value, len(fields))
	for field, column := range fields {
		switch v := row[column].(type) {
		case string:
			vals[field] = encode.TextValue(v)
		case int64:
			vals[field] = encode.NumberValue(float64(v))
		case float64:
			vals[field] = encode.NumberValue(v)
		case bool:
			vals[field] = encode.TextValue(fmt.Sprint(v))
		case []byte:
			vals[field] = encode.BytesValue(v)
		case json.RawMessage:
			vals[field] = encode.TextValue(string(v))
		default:
			return encode.Object{}, missing(row, column)
		}
	}
	return encode.Record(vals), nil
}

func (m *mapping) number(row source.Fields, column string) (float32, error) {
	switch v := row[column].(type) {
	case int64:
		return float32(v), nil
	case float64:
		return float32(v), nil
	case string: // every value of a CSV file
		if f, err := strconv.ParseFloat(strings.TrimSpace(v), 32); err == nil {
			return float32(f), nil
		}
	case nil:
		return 0, missing(row, column)
	}
	return 0, fmt.Errorf("column %q: %v is no number", column, row[column])
}
