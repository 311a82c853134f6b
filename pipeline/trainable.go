package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/pipeline/train/trainable"
)

// Trainable returns the model of an encoder that is trained with the head. One
// that reads texts has no frozen model: what it reads is stored at the fill
// and gathered in every epoch. Another one reads the embeddings of on, which
// are cached like all others. A pipeline needs one encoder at least whose
// embeddings are cached or encoded.
func Trainable(c trainable.Config, on encode.Model) encode.Model {
	if c.ReadsTexts() {
		on = texts{}
	}
	return trainedModel{on, c}
}

type trainedModel struct {
	encode.Model
	config trainable.Config
}

// texts stands for the frozen model of an encoder that reads texts.
type texts struct{}

// textsEngine is the engine of an encoder whose texts are stored.
const textsEngine = "texts"

func (texts) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{Engine: textsEngine, Dim: 1, BatchInvariant: true, Fields: []encode.Field{{Name: "stored", Value: "inputs"}}}, nil
}

var errTrained = errors.New("it is trained with the head, so it can neither be run alone nor be an option of a switch")

func (texts) Open(context.Context, int) (encode.Encoder, error) { return nil, errTrained }

// frozenOf returns the frozen model under a trained encoder, with what it
// reads, and the encoder; or the model itself.
func frozenOf(m encode.Model) (encode.Model, trainable.Config) {
	t, ok := encode.Unwrap(m).(trainedModel)
	if !ok {
		return m, nil
	}
	if r := encode.ReadsOf(m); !reflect.DeepEqual(r, encode.Reads{}) {
		return encode.Reading(encode.Unwrap(t.Model), r), t.config
	}
	return t.Model, t.config
}

// takeTrained splits the encoders into frozen models and what is trained.
func (p *Pipeline[Row]) takeTrained() error {
	models := maps.Clone(p.cfg.Encoders)
	p.trained = map[string]trainable.Config{}
	frozen := 0
	var errs []error
	for _, name := range p.names {
		if models[name] == nil {
			return nil // reported
		}
		m, c := frozenOf(models[name])
		models[name] = m
		if c == nil || !c.ReadsTexts() {
			frozen++
		}
		if c == nil {
			continue
		}
		p.trained[name] = c
		if !c.ReadsTexts() {
			continue
		}
		if p.cfg.Cache != nil {
			if t, ok := p.cfg.Cache.Mapping[name]; ok && t != cachesink.None {
				errs = append(errs, configErr("cache: mapping: encoder %q is trained: there are no embeddings of it to keep", name))
			}
		}
		p.places[name] = placement{asked: cachesink.None, used: cachesink.None}
	}
	if frozen == 0 && len(p.names) > 0 {
		errs = append(errs, configErr("all encoders are trained on texts: at least one must be frozen"))
	}
	p.cfg.Encoders = models
	p.loop.models, p.loop.trained = models, p.trained
	return errors.Join(errs...)
}

// readsTexts reports whether an encoder is trained on texts.
func (p *Pipeline[Row]) readsTexts(name string) bool {
	c := p.trained[name]
	return c != nil && c.ReadsTexts()
}

// parts are the encoders of a training, nil where none is trained. dims are
// those of the frozen ones.
func (p *Pipeline[Row]) parts(dims map[string]int) []train.Part {
	if len(p.trained) == 0 {
		return nil
	}
	var parts []train.Part
	for _, name := range p.names {
		part := train.Part{Name: name, Encoder: p.trained[name]}
		if !p.readsTexts(name) {
			part.Dim = dims[name]
		}
		parts = append(parts, part)
	}
	return parts
}

// textsOf are the texts of a column of canonical inputs.
func textsOf(dst []string, column arrow.Array) ([]string, error) {
	a, ok := column.(*array.Binary)
	if !ok {
		return nil, fmt.Errorf("%w: no column of inputs", cachesink.ErrSchema)
	}
	dst = dst[:0]
	for i := range a.Len() {
		in, err := encode.ParseInput(a.Value(i))
		if err != nil {
			return nil, fmt.Errorf("%w: row %d: %w", cachesink.ErrSchema, i, err)
		}
		dst = append(dst, in.Text())
	}
	return dst, nil
}

// addTexts adds to a batch what the encoders read that are trained on texts.
func (d *data) addTexts(out *train.Batch, rec arrow.Record, sides []string) error {
	for k, dst := range []*[][]string{&out.ATexts, &out.BTexts} {
		if k == len(sides) {
			break
		}
		for len(*dst) < len(d.texts) {
			*dst = append(*dst, nil)
		}
		for i, name := range d.texts {
			var err error
			column := columnOf(rec, cachesink.EncoderColumn(name, sides[k], cachesink.RoleInput))
			if (*dst)[i], err = textsOf((*dst)[i], column); err != nil {
				return fmt.Errorf("encoder %q: %w", name, err)
			}
		}
	}
	return nil
}

// outputTrained is the file of the weights of trained encoders.
const outputTrained = "encoders.safetensors"

// parts are the encoders of the training.
func (doc *outputDoc) parts() (parts []train.Part, err error) {
	for _, oe := range doc.Encoders {
		part := train.Part{Name: oe.Name, Dim: oe.Dim}
		if t := oe.Trained; t != nil {
			if part.Encoder, err = parsed(*t, trainable.Parse); err != nil {
				return nil, fmt.Errorf("encoder %q: %w", oe.Name, err)
			}
		}
		if partOfTexts(part) {
			part.Dim = 0
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// partOfTexts reports whether a part is an encoder that is trained on texts.
func partOfTexts(p train.Part) bool { return p.Encoder != nil && p.Encoder.ReadsTexts() }

// loadWeights reads the trained head of an output folder and the trained
// encoders, nil where none was trained.
func (doc *outputDoc) loadWeights(dir string) (*train.FrozenEncoders, head.Head, error) {
	parts, err := doc.parts()
	if err != nil {
		return nil, nil, err
	}
	dim := 0
	for _, p := range parts {
		dim += p.Dim
	}
	var encoders *train.FrozenEncoders
	if slices.ContainsFunc(parts, func(p train.Part) bool { return p.Encoder != nil }) {
		f, err := os.Open(filepath.Join(dir, outputTrained))
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		e, err := train.LoadEncoders(f, parts)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", outputTrained, err)
		}
		encoders, dim = e.Freeze(), e.Dim()
	}
	h, err := doc.loadHead(dir, dim)
	return encoders, h, err
}

// ngramBagEngine reads {type: ngram_bag} in a config.
func ngramBagEngine() engine {
	return engineOf(trainable.NgramBag{}.Type(), func(b trainable.NgramBag, _ files) (encode.Model, error) {
		return Trainable(b, nil), nil // a training tries its options
	})
}

// projectionEngine reads {type: projection, dim: N, encoder: ENCODER}; the
// frozen encoder has a section of its own, and what it reads.
func projectionEngine() engine {
	return engine{name: trainable.Projection{}.Type(), section: func(y *yamlConfig, s *section) encode.Model {
		var c trainable.Projection
		if s.integer("dim", &c.Dim); c.Dim < 0 {
			y.d.fail(s.vals["dim"], "%s is %d", s.name("dim"), c.Dim)
		}
		inner := s.sub("encoder")
		m := y.encoder(inner, s)
		if _, is := frozenOf(m); is != nil {
			y.d.fail(cmp.Or(inner.vals["type"], inner.at(s)), "%s: name a frozen encoder", s.name("encoder"))
		}
		return encode.Reading(Trainable(c, m), encode.ReadsOf(m))
	}}
}
