package pipeline

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/bert"
	"github.com/permafrost-ml/permafrost/encode/onnx"
	"github.com/permafrost-ml/permafrost/encode/static"
)

// engine is a kind of encoder that a config and an output folder can name.
type engine struct {
	name string
	// keys are those of an encoder's section that are the engine's own.
	keys []string
	// model makes the model of options in JSON; at finds the files that they
	// name. It opens nothing.
	model func(options []byte, at files) (encode.Model, error)
	// section, if set, reads an encoder's whole section of a config instead:
	// that of an engine made of others. The model declares what it reads.
	section func(y *yamlConfig, s *section) encode.Model
}

// engines are all kinds that stand for themselves; compound ones are made of
// them.
var engines = []engine{
	engineOf("static", func(struct{}, files) (encode.Model, error) { return static.Default(), nil }),
	engineOf("bert", func(o bert.Options, at files) (encode.Model, error) {
		err := o.Validate()
		if err == nil {
			o.Dir, err = at.model(o.Dir)
		}
		return o.Model(), err
	}),
	engineOf("onnx", func(o onnx.Options, at files) (encode.Model, error) {
		err := o.Validate()
		if err == nil {
			o.Path, err = at.model(o.Path)
		}
		o.Library = at.path(o.Library)
		return o.Model(), err
	}),
	ngramBagEngine(),
}

// compound are the engines made of others.
func compound() []engine { return []engine{switchEngine(), projectionEngine()} }

// engineOf is the engine whose options are an O, a struct whose fields have
// the names of their keys as JSON tags.
func engineOf[O any](name string, model func(o O, at files) (encode.Model, error)) engine {
	e := engine{name: name}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[O]()) {
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "" && key != "-" {
			e.keys = append(e.keys, key)
		}
	}
	e.model = func(options []byte, at files) (encode.Model, error) {
		var o O
		dec := json.NewDecoder(bytes.NewReader(options))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&o); err != nil {
			return nil, err
		}
		return model(o, at)
	}
	return e
}

// Engines returns the types of encoders that a config can name.
func Engines() []string {
	var names []string
	for _, e := range append(slices.Clone(engines), compound()...) {
		names = append(names, e.name)
	}
	return names
}

func findEngine(name string) (engine, error) {
	for _, e := range append(slices.Clone(engines), compound()...) {
		if e.name == name {
			return e, nil
		}
	}
	all := strings.Join(Engines(), ", ")
	if name == "" {
		return engine{}, errors.New("no type is given, there is " + all)
	}
	return engine{}, fmt.Errorf("unknown type %q, there is %s", name, all)
}

// encoder makes the model of an encoder's section, with what it reads. What is
// wrong is reported, and the embedded model stands in for the checks to come.
func (y *yamlConfig) encoder(s *section, outer *section) encode.Model {
	var typ string
	s.text("type", &typ)
	e, err := findEngine(typ)
	if err != nil {
		y.d.fail(cmp.Or(s.vals["type"], s.at(outer)), "%s: %w", s.name("type"), err)
	}
	if e.section != nil {
		m := e.section(y, s)
		s.end()
		return m
	}
	m := y.model(e, s)
	var r encode.Reads
	s.text("input", &r.Field)
	r.Fields = s.texts("fields")
	s.text("template", &r.Template)
	var prompt string
	s.text("prompt", &prompt)
	s.end()
	if err = r.Validate(); err == nil {
		if r, err = r.Prompt(prompt); err == nil {
			err = y.readable(r)
		}
	}
	if err != nil {
		y.d.fail(s.at(outer), "%s: %w", s.path, err)
	}
	return encode.Reading(m, r)
}

// model makes the model of the options in an encoder's section.
func (y *yamlConfig) model(e engine, s *section) encode.Model {
	if e.model == nil {
		return static.Default() // there is no such engine
	}
	options := map[string]any{}
	for _, key := range e.keys {
		if n := s.get(key); n != nil {
			var v any
			if err := n.Decode(&v); err != nil {
				y.d.fail(n, "%s: %w", s.name(key), err)
				return static.Default()
			}
			options[key] = v
		}
	}
	text, err := json.Marshal(options)
	if err == nil {
		var m encode.Model
		if m, err = e.model(text, files{y.dir}); err == nil {
			return m
		}
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		y.d.fail(cmp.Or(s.vals[wrong.Field], s.node), "%s: want a value of type %v, not a %s", s.name(wrong.Field), wrong.Type, wrong.Value)
	} else {
		y.d.fail(s.node, "%s: %w", s.path, err)
	}
	return static.Default()
}

// modelOptions are the options by which the engine of a model can make it
// again, in JSON.
func modelOptions(m encode.Model) (json.RawMessage, error) {
	if c, ok := m.(encode.Configured); ok {
		return json.Marshal(c.Options())
	}
	return nil, nil
}
