package qdrant

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/http"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/stage"
)

// Upload upserts every record batch, one at a time and in order, each in one
// request, and then calls stored, if it is not nil, with its rows.
func Upload(g *stage.Group, in stage.Stream[arrow.Record], c *Collection, stored func(ctx context.Context, rows int64) error) {
	stage.Consume(g, in, "upload to Qdrant", func(ctx context.Context, in iter.Seq[arrow.Record]) error {
		for rec := range in {
			rows := rec.NumRows()
			err := c.Upsert(ctx, rec)
			rec.Release()
			if err == nil && stored != nil {
				err = stored(ctx, rows)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Upsert stores the rows of a record batch as points, and returns when they
// are. It borrows rec.
func (c *Collection) Upsert(ctx context.Context, rec arrow.Record) error {
	if rec.NumRows() == 0 {
		return nil
	}
	body, err := c.points(rec)
	if err != nil {
		return fmt.Errorf("make points: %w", err)
	}
	var done updateResult
	if err := c.client.call(ctx, http.MethodPut, c.path+"/points?wait=true", body, &done); err != nil {
		return fmt.Errorf("upsert %d points to %q: %w", rec.NumRows(), c.opts.Collection, err)
	}
	return nil
}

// updateResult is the answer to an upsert.
type updateResult struct{}

// UnmarshalJSON fails for an answer that leaves open whether the points are
// stored, so that they are sent again.
func (*updateResult) UnmarshalJSON(b []byte) error {
	var r struct{ Status string }
	if err := json.Unmarshal(b, &r); err != nil {
		return err
	}
	if r.Status != "completed" {
		return fmt.Errorf("the points are %q, not completed", r.Status)
	}
	return nil
}

// Has reports whether the collection has a point of every row. It borrows rec.
func (c *Collection) Has(ctx context.Context, rec arrow.Record) (bool, error) {
	ids, err := c.ids(rec)
	if err != nil {
		return false, fmt.Errorf("make points: %w", err)
	}
	want := map[string]bool{}
	for i := range int(rec.NumRows()) {
		id, err := ids(i)
		if err != nil {
			return false, err
		}
		want[id] = true
	}
	asked := make([]string, 0, len(want))
	for id := range want {
		asked = append(asked, id)
	}
	body, err := json.Marshal(map[string]any{"ids": asked, "with_payload": false, "with_vector": false})
	if err != nil {
		return false, err
	}
	var found []struct{ ID string }
	if err := c.client.call(ctx, http.MethodPost, c.path+"/points", body, &found); err != nil {
		return false, fmt.Errorf("look up %d points of %q: %w", len(asked), c.opts.Collection, err)
	}
	for _, p := range found {
		delete(want, p.ID)
	}
	return len(want) == 0, nil
}

// points is the body of an upsert.
func (c *Collection) points(rec arrow.Record) ([]byte, error) {
	ids, err := c.ids(rec)
	if err != nil {
		return nil, err
	}
	vecs, err := c.vectors(rec)
	if err != nil {
		return nil, err
	}
	body := make([]byte, 0, int(rec.NumRows())*(c.opts.Dim*12+256))
	body = append(body, `{"points":[`...)
	payload := map[string]any{} // encoding/json sorts its keys
	for i := range int(rec.NumRows()) {
		if i > 0 {
			body = append(body, ',')
		}
		id, err := ids(i)
		if err != nil {
			return nil, err
		}
		body = append(append(append(body, `{"id":"`...), id...), `","vector":[`...)
		for k, v := range vecs[i*c.opts.Dim : (i+1)*c.opts.Dim] {
			if v64 := float64(v); math.IsNaN(v64) || math.IsInf(v64, 0) {
				return nil, fmt.Errorf("row %d: value %d of the vector is %v", i, k, v)
			}
			if k > 0 {
				body = append(body, ',')
			}
			body = strconv.AppendFloat(body, float64(v), 'g', -1, 32)
		}
		clear(payload)
		for k, f := range rec.Schema().Fields() {
			if f.Name != c.opts.Vector {
				setPayload(payload, f.Name, rec.Column(k), i)
			}
		}
		b, err := json.Marshal(payload)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
		body = append(append(append(body, `],"payload":`...), b...), '}')
	}
	return append(body, "]}"...), nil
}

func setPayload(payload map[string]any, name string, a arrow.Array, i int) {
	if a.IsNull(i) {
		return
	}
	switch a := a.(type) {
	case *array.FixedSizeBinary:
		payload[name] = hex.EncodeToString(a.Value(i))
	case *array.Binary:
		payload[name] = hex.EncodeToString(a.Value(i))
	default:
		payload[name] = a.GetOneForMarshal(i)
	}
}

// vectors returns the values of the column of embeddings.
func (c *Collection) vectors(rec arrow.Record) ([]float32, error) {
	at := rec.Schema().FieldIndices(c.opts.Vector)
	if len(at) != 1 {
		return nil, fmt.Errorf("%d columns %q", len(at), c.opts.Vector)
	}
	list, ok := rec.Column(at[0]).(*array.FixedSizeList)
	if !ok || list.NullN() > 0 {
		return nil, fmt.Errorf("column %q is %v, with %d nulls", c.opts.Vector, rec.Column(at[0]).DataType(), rec.Column(at[0]).NullN())
	}
	values, ok := list.ListValues().(*array.Float32)
	if dim := int(list.DataType().(*arrow.FixedSizeListType).Len()); !ok || dim != c.opts.Dim {
		return nil, fmt.Errorf("column %q is %v, not of %d float32", c.opts.Vector, list.DataType(), c.opts.Dim)
	}
	from, to := list.Offset()*c.opts.Dim, (list.Offset()+list.Len())*c.opts.Dim
	if to > values.Len() {
		return nil, fmt.Errorf("column %q has %d values, of %d", c.opts.Vector, values.Len(), to)
	}
	return values.Float32Values()[from:to], nil
}

// ids returns what gives the id of a row's point.
func (c *Collection) ids(rec arrow.Record) (func(row int) (string, error), error) {
	at := rec.Schema().FieldIndices(c.opts.ID)
	if len(at) != 1 {
		return nil, fmt.Errorf("%d columns %q", len(at), c.opts.ID)
	}
	col := rec.Column(at[0])
	if col.NullN() > 0 {
		return nil, fmt.Errorf("column %q has nulls", c.opts.ID)
	}
	switch a := col.(type) {
	case *array.FixedSizeBinary:
		return func(i int) (string, error) { return pointID(a.Value(i)) }, nil
	case *array.String:
		return func(i int) (string, error) {
			b, err := hex.DecodeString(a.Value(i))
			if err != nil {
				return "", fmt.Errorf("row %d: id %q: %w", i, a.Value(i), err)
			}
			return pointID(b)
		}, nil
	}
	return nil, fmt.Errorf("column %q is %v", c.opts.ID, col.DataType())
}

// pointID is the UUID of an object: version 8, that of one's own making, with
// 122 bits of the object's id.
func pointID(id []byte) (string, error) {
	if len(id) < 16 {
		return "", errors.New("ids are shorter than 16 bytes")
	}
	var u [16]byte
	copy(u[:], id)
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), nil
}
