package cachesink

import (
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// wanted are objects that are looked for in sample batches, by encoder.
type wanted map[string]map[[32]byte]*wantedObject

// wantedObject is what a dataset has of an object.
type wantedObject struct {
	keep bool // its input, and not only its size
	name bool // where it was first met, too

	met   bool
	size  int // of its input
	input []byte

	split, key string
	row        int64
}

// add wants an object, once.
func (w wanted) add(encoder string, id []byte) *wantedObject {
	if w[encoder] == nil {
		w[encoder] = map[[32]byte]*wantedObject{}
	}
	o := w[encoder][[32]byte(id)]
	if o == nil {
		o = &wantedObject{}
		w[encoder][[32]byte(id)] = o
	}
	return o
}

// take notes the wanted objects of a sample batch.
func (w wanted) take(rec arrow.Record) error {
	cols, err := parseSampleSchema(rec.Schema())
	if err != nil {
		return err
	}
	if err := cols.checkNulls(rec); err != nil {
		return err
	}
	rows, err := column[*array.Int64](rec, ColumnRow)
	if err != nil {
		return err
	}
	for _, u := range cols.uses {
		objects := w[u.encoder]
		if len(objects) == 0 {
			continue
		}
		ids, inputs := rec.Column(u.id).(*array.FixedSizeBinary), rec.Column(u.input).(*array.Binary)
		for row := range ids.Len() {
			o := objects[[32]byte(ids.Value(row))]
			if o == nil || o.met {
				continue
			}
			o.met, o.size = true, inputs.ValueLen(row)
			if o.keep {
				o.input = append([]byte{}, inputs.Value(row)...)
			}
			if o.name {
				o.split, o.row = cols.split, rows.Value(row)
				o.key = strings.Clone(rec.Column(u.key).(*array.String).Value(row))
			}
		}
	}
	return nil
}

// inputs returns what gives the inputs of kept objects one after the other.
func (w wanted) inputs(encoder string, ids []byte) func() ([]byte, error) {
	return func() ([]byte, error) {
		o := w[encoder][[32]byte(ids)]
		ids = ids[idBytes:]
		return o.input, nil
	}
}
