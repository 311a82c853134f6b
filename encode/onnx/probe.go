package onnx

import "errors"

// probe learns the open sizes of the output from a run.
func (s *setup) probe(rt *library, o Options) error {
	run, err := rt.open(s, o)
	if err != nil {
		return err
	}
	e := newEncoder(s, run)
	if s.images == nil {
		e.ids = s.tokens.Append(nil, "", s.maxLength)
		e.ends = []int{len(e.ids)}
		e.setTexts([]int{0})
	} else {
		clear(e.setImages(0))
	}
	shape, err := run.shape(e.inputs)
	err = errors.Join(err, e.Close())
	if err == nil {
		s.output.dims, s.output.symbols = shape, make([]string, len(shape))
	}
	return err
}
