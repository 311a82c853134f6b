package pipeline

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/permafrost-ml/permafrost/encode"
)

// switchEngine is the engine of an encoder made of others, of which a field of
// each object chooses one.
func switchEngine() engine {
	return engine{name: encode.SwitchEngine, model: switchOfOptions, section: (*yamlConfig).switchSection}
}

// switchSection reads {type: switch, by: FIELD, options: {NAME: ENCODER}}; each
// option is the section of an encoder.
func (y *yamlConfig) switchSection(s *section) encode.Model {
	var by string
	if s.text("by", &by); by == "" {
		y.d.fail(cmp.Or(s.vals["by"], s.node), "%s: name the field that chooses the option", s.name("by"))
	} else if err := y.readable(encode.Reads{Field: by}); err != nil {
		y.d.fail(s.vals["by"], "%s: %w", s.name("by"), err)
	}
	all := s.sub("options")
	options := map[string]encode.Model{}
	for _, name := range all.names() {
		options[name] = y.encoder(all.sub(name), all)
	}
	if len(options) == 0 {
		y.d.fail(all.at(s), "%s: name the options, each with its encoder", s.name("options"))
	}
	return encode.Switch(by, options)
}

// switchOfOptions makes a switch of the options in JSON that an output folder
// keeps; each has the keys of a section of an encoder.
func switchOfOptions(text []byte, at files) (encode.Model, error) {
	var o struct {
		By      string                                `json:"by"`
		Options map[string]map[string]json.RawMessage `json:"options"`
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, err
	}
	options := map[string]encode.Model{}
	for name, keys := range o.Options {
		m, err := encoderOfOptions(keys, at)
		if err != nil {
			return nil, fmt.Errorf("option %q: %w", name, err)
		}
		options[name] = m
	}
	return encode.Switch(o.By, options), nil
}

func encoderOfOptions(keys map[string]json.RawMessage, at files) (encode.Model, error) {
	var typ string
	var r encode.Reads
	for key, dst := range map[string]any{"type": &typ, "input": &r.Field, "fields": &r.Fields, "template": &r.Template} {
		if text, ok := keys[key]; ok {
			if err := json.Unmarshal(text, dst); err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			delete(keys, key)
		}
	}
	e, err := findEngine(typ)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncoder, err)
	}
	text, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	m, err := e.model(text, at)
	if err != nil || e.section != nil { // which declares what it reads
		return m, err
	}
	return encode.Reading(m, r), nil
}
