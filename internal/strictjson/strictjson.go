// Package strictjson decodes JSON whose every key must be known.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Decode reads one JSON value into a C. No data at all is the zero C.
func Decode[C any](data []byte) (c C, err error) {
	if len(data) == 0 {
		return c, nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return c, errors.New("more than one JSON value")
	}
	return c, nil
}
