package cachesink

import (
	"context"
	"iter"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/stage"
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

// find is the stage that looks for the objects in all sample batches, and then
// has send emit what is to be encoded for one encoder after the other.
func (w wanted) find(g *stage.Group, in stage.Stream[arrow.Record], name string, encoders []string, send func(encoder string, emit func(arrow.Record) error) error) map[string]stage.Stream[arrow.Record] {
	streams := stage.Split(g, in, name, len(encoders), func(ctx context.Context, in iter.Seq[arrow.Record], emit func(int, arrow.Record) error) error {
		for rec := range in {
			err := w.take(rec)
			rec.Release()
			if err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for i, encoder := range encoders {
			if err := send(encoder, func(rec arrow.Record) error { return emit(i, rec) }); err != nil {
				return err
			}
		}
		return nil
	})
	out := map[string]stage.Stream[arrow.Record]{}
	for i, encoder := range encoders {
		out[encoder] = streams[i]
	}
	return out
}

// inputs returns what gives the inputs of kept objects one after the other.
func (w wanted) inputs(encoder string, ids []byte) func() ([]byte, error) {
	return func() ([]byte, error) {
		o := w[encoder][[32]byte(ids)]
		ids = ids[idBytes:]
		return o.input, nil
	}
}
