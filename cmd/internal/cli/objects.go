package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/source"
)

// chunkRows is the number of objects that are encoded at once.
const chunkRows = 256

// chunk are some objects with the numbers of their lines.
type chunk struct {
	name    string // of the file
	lines   []int64
	objects []encode.Object
}

// objectReader reads objects, one a line.
type objectReader struct {
	name   string
	r      io.Reader
	plain  bool              // lines are texts
	rename map[string]string // field -> column, for those that differ
}

// chunks yields all objects.
func (r *objectReader) chunks(yield func(chunk, error) bool) {
	br := bufio.NewReaderSize(r.r, 64<<10)
	c := chunk{name: r.name}
	for n := int64(1); ; n++ {
		line, err := readLine(br)
		if err == io.EOF {
			break
		}
		if err != nil {
			yield(c, fmt.Errorf("%s:%d: %w", r.name, n, err))
			return
		}
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if !r.plain && len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		o, err := r.object(line)
		if err != nil {
			yield(c, fmt.Errorf("%s:%d: %w", r.name, n, err))
			return
		}
		c.objects, c.lines = append(c.objects, o), append(c.lines, n)
		if len(c.objects) == chunkRows {
			if !yield(c, nil) {
				return
			}
			c = chunk{name: r.name}
		}
	}
	if len(c.objects) > 0 {
		yield(c, nil)
	}
}

// readLine returns the next line without its end; io.EOF after the last one.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > source.DefaultMaxLine {
			return nil, fmt.Errorf("the line is longer than %d bytes", source.DefaultMaxLine)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && len(line) > 0, err == nil:
			return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), nil
		}
		return nil, err
	}
}

// object makes an object of a line.
func (r *objectReader) object(line []byte) (none encode.Object, err error) {
	if !utf8.Valid(line) {
		return none, errors.New("the line is not UTF-8")
	}
	if r.plain {
		return encode.Text(string(line)), nil
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return none, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return none, errors.New("not JSON: something follows the value")
	}
	fields := map[string]encode.Value{}
	switch v := v.(type) {
	case string:
		fields[encode.DefaultField] = encode.TextValue(v)
	case map[string]any:
		for name, x := range v {
			if fields[name], err = value(x); err != nil {
				return none, fmt.Errorf("field %q: %w", name, err)
			}
		}
	default:
		return none, errors.New("want a JSON object or a string")
	}
	return r.renamed(fields)
}

// value is a JSON value as configs read it: nested ones are texts.
func value(x any) (encode.Value, error) {
	switch x := x.(type) {
	case nil:
		return encode.Value{}, nil
	case string:
		return encode.TextValue(x), nil
	case bool:
		return encode.TextValue(fmt.Sprint(x)), nil
	case json.Number:
		f, err := x.Float64()
		return encode.NumberValue(f), err
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(x)
	return encode.TextValue(strings.TrimSuffix(b.String(), "\n")), err
}

func (r *objectReader) renamed(fields map[string]encode.Value) (none encode.Object, err error) {
	o := encode.Record(fields)
	for field, column := range r.rename {
		v := o.Field(column)
		if v.IsZero() {
			return none, fmt.Errorf("%w: %q (the object has %q)", encode.ErrField, column, o.Names())
		}
		fields[field] = v
	}
	return encode.Record(fields), nil
}
