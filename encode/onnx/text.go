package onnx

import (
	"context"
	"fmt"
)

func (e *encoder) encodeTexts(ctx context.Context, batch batch, dst []float32) (err error) {
	e.ids, e.ends = e.ids[:0], e.ends[:0]
	for i := range batch.len() {
		if i%64 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if e.ids, err = batch.appendText(e.ids, i); err != nil {
			return err
		}
		e.ends = append(e.ends, len(e.ids))
	}
	most := e.rows(runRows)
	for texts := range e.packing.runs(e.ends, most) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.runTexts(texts, dst); err != nil {
			return fmt.Errorf("run of %d texts: %w", len(texts), err)
		}
	}
	if cap(e.ids) > maxKeptIDs {
		e.ids = nil
	}
	return nil
}

// maxKeptIDs is how many ids of scratch memory outlive a call.
const maxKeptIDs = 1 << 20

// text returns the ids of text i of the batch.
func (e *encoder) text(i int) []int32 {
	from := 0
	if i > 0 {
		from = e.ends[i-1]
	}
	return e.ids[from:e.ends[i]]
}

// runTexts encodes texts of the batch, the longest first, in one run.
func (e *encoder) runTexts(texts []int, dst []float32) error {
	rows, length := e.setTexts(texts)
	values, size, err := e.compute(rows, length)
	if err != nil {
		return err
	}
	for row, i := range texts {
		e.pool(dst[i*e.dim:(i+1)*e.dim], values[row*size:(row+1)*size], len(e.text(i)))
	}
	return nil
}

// setTexts makes texts the inputs of a run. It returns the rows and their
// padded length.
func (e *encoder) setTexts(texts []int) (rows, length int) {
	rows, length = e.rows(len(texts)), len(e.text(texts[0]))
	if fixed := e.setup.inputs[0].dims[1]; fixed > 0 {
		length = int(fixed)
	}
	for i, in := range e.setup.inputs {
		data := e.input(i, int64(rows), int64(length))
		for row := range rows {
			ids := e.text(texts[0]) // also of a row that nobody asked for
			if row < len(texts) {
				ids = e.text(texts[row])
			}
			if from, to := row*length, (row+1)*length; in.elem == int64s {
				fill(view[int64](data)[from:to], in.name, ids, e.tokens.Pad())
			} else {
				fill(view[int32](data)[from:to], in.name, ids, e.tokens.Pad())
			}
		}
	}
	return rows, length
}

// fill writes a row of the input of that name.
func fill[T int32 | int64](row []T, name string, ids []int32, pad int32) {
	clear(row)
	switch name {
	case "input_ids":
		for i, id := range ids {
			row[i] = T(id)
		}
		for i := len(ids); i < len(row); i++ {
			row[i] = T(pad)
		}
	case "attention_mask":
		for i := range ids {
			row[i] = 1
		}
	}
}
