package encode

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Input is what an encoder receives for one object: the values that its
// [Reads] picked, in order.
type Input []Value

// Text returns the texts of all values, joined by one space: what a text
// encoder reads.
func (in Input) Text() string {
	if len(in) == 1 {
		return in[0].Text()
	}
	parts := make([]string, len(in))
	for i, v := range in {
		parts[i] = v.Text()
	}
	return strings.Join(parts, " ")
}

// ID is the identity of an object under an encoder's input: equal ids are
// encoded once. See [Identify].
type ID [sha256.Size]byte

// String returns the id in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// idTag versions the computation of ids.
const idTag = "permafrost.object.v1\n"

// AppendInput appends the canonical bytes of in to dst: for every value its
// kind (1 byte), its length (8 bytes, little endian) and its bytes; a number
// is the 8 bytes of its IEEE 754 form, with one zero and one NaN.
func AppendInput(dst []byte, in Input) []byte {
	for _, v := range in {
		dst = append(dst, byte(v.kind))
		if v.kind == NumberKind {
			dst = binary.LittleEndian.AppendUint64(dst, 8)
			dst = binary.LittleEndian.AppendUint64(dst, canonicalBits(v.num))
			continue
		}
		dst = binary.LittleEndian.AppendUint64(dst, uint64(len(v.text)))
		dst = append(dst, v.text...)
	}
	return dst
}

func canonicalBits(f float64) uint64 {
	switch {
	case f == 0:
		return 0
	case f != f:
		return 0x7ff8000000000000
	}
	return math.Float64bits(f)
}

var errInput = errors.New("encode: malformed canonical input")

// ParseInput reads what [AppendInput] wrote. It copies b.
func ParseInput(b []byte) (Input, error) {
	in := make(Input, 0, 1)
	for len(b) > 0 {
		if len(b) < 9 {
			return nil, errInput
		}
		kind, n := Kind(b[0]), binary.LittleEndian.Uint64(b[1:9])
		b = b[9:]
		if n > uint64(len(b)) {
			return nil, errInput
		}
		switch kind {
		case TextKind, BytesKind:
			in = append(in, Value{kind: kind, text: string(b[:n])})
		case NumberKind:
			if n != 8 {
				return nil, errInput
			}
			in = append(in, NumberValue(math.Float64frombits(binary.LittleEndian.Uint64(b))))
		default:
			return nil, errInput
		}
		b = b[n:]
	}
	return in, nil
}

// Identify returns the id of an object whose canonical input bytes (see
// [AppendInput]) are given: SHA-256 over a version tag and those bytes.
func Identify(canonical []byte) ID {
	var buf [512]byte
	return sha256.Sum256(append(append(buf[:0], idTag...), canonical...))
}

// Reads declares what an encoder reads of an object: one field, several, or
// a template. The zero Reads is the field "text".
type Reads struct {
	// Field is the one field to read. Default: "text".
	Field string
	// Fields are several fields, each one value of the input, in this order.
	// Default: none.
	Fields []string
	// Template is a text in which {name} stands for the text of a field and
	// {{ for a brace; its rendering is the one value of the input. A prompt
	// is a template: "query: {text}". Default: none.
	Template string
	// By is the field whose text chooses one of Options, and with it what is
	// read: the input is that text and then the values of the option. Default:
	// none.
	By string `json:",omitempty"`
	// Options are what is read by the choice; see [Switch]. Default: none.
	Options map[string]Reads `json:",omitempty"`
}

// Validate reports what is wrong with the declaration itself.
func (r Reads) Validate() error {
	set := 0
	for _, is := range []bool{r.Field != "", len(r.Fields) > 0, r.Template != "", r.By != "" || len(r.Options) > 0} {
		if is {
			set++
		}
	}
	if set > 1 {
		return errors.New("field, fields and template exclude each other")
	}
	if r.By != "" || len(r.Options) > 0 {
		return r.validateOptions()
	}
	if r.Template == "" {
		return nil
	}
	names := 0
	err := eachPart(r.Template, func(string) {}, func(string) error { names++; return nil })
	if err == nil && names == 0 {
		err = fmt.Errorf("template %q names no field", r.Template)
	}
	return err
}

func (r Reads) validateOptions() error {
	switch {
	case r.By == "":
		return errors.New("no field chooses among the options")
	case len(r.Options) == 0:
		return errors.New("there are no options to choose from")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Options)) {
		if err := r.Options[name].Validate(); err != nil {
			return fmt.Errorf("option %q: %w", name, err)
		}
	}
	return nil
}

// Choice returns the option that an object chooses, the empty string where it
// chooses none; for options that choose themselves the names with / between.
func (r Reads) Choice(o Object) string {
	name := o.Field(r.By).Text()
	option, ok := r.Options[name]
	if !ok {
		return ""
	}
	if inner := option.Choice(o); inner != "" {
		return name + "/" + inner
	}
	return name
}

// Choices returns all that Choice can give but the empty string, sorted; none
// where objects choose nothing.
func (r Reads) Choices() (all []string) {
	for _, name := range slices.Sorted(maps.Keys(r.Options)) {
		inner := r.Options[name].Choices()
		for _, choice := range inner {
			all = append(all, name+"/"+choice)
		}
		if inner == nil {
			all = append(all, name)
		}
	}
	return all
}

// chosen picks the input by the option that o chooses.
func (r Reads) chosen(o Object) (Input, error) {
	v, err := o.need(r.By)
	if err != nil {
		return nil, err
	}
	name := v.Text()
	option, ok := r.Options[name]
	if !ok {
		return nil, fmt.Errorf("field %q: %w", r.By, unknownOption(name, slices.Sorted(maps.Keys(r.Options))))
	}
	in, err := option.Input(o)
	if err != nil {
		return nil, fmt.Errorf("option %q: %w", name, err)
	}
	return append(Input{TextValue(name)}, in...), nil
}

// Prompt is r with a text before what it reads, which becomes a template. It
// is an error where r reads several fields.
func (r Reads) Prompt(text string) (Reads, error) {
	if text == "" {
		return r, nil
	}
	if r.By != "" {
		return r, errors.New("a prompt goes before what an option reads: declare it there")
	}
	if len(r.Fields) > 0 {
		return r, errors.New("a prompt goes before one text: declare a template instead of fields")
	}
	rest := r.Template
	if rest == "" {
		rest = "{" + r.field() + "}"
	}
	return Reads{Template: strings.NewReplacer("{", "{{", "}", "}}").Replace(text) + rest}, nil
}

// String is the canonical form of the declaration, for fingerprints of
// splits and for messages.
func (r Reads) String() string {
	switch {
	case r.By != "":
		var options []string
		for _, name := range slices.Sorted(maps.Keys(r.Options)) {
			options = append(options, fmt.Sprintf("%q: %s", name, r.Options[name]))
		}
		return fmt.Sprintf("by field %q {%s}", r.By, strings.Join(options, ", "))
	case r.Template != "":
		return fmt.Sprintf("template %q", r.Template)
	case len(r.Fields) > 0:
		return fmt.Sprintf("fields %q", r.Fields)
	}
	return fmt.Sprintf("field %q", r.field())
}

func (r Reads) field() string {
	if r.Field == "" {
		return DefaultField
	}
	return r.Field
}

// Input picks an encoder's input from o. An absent field is an error.
func (r Reads) Input(o Object) (Input, error) {
	switch {
	case r.By != "":
		return r.chosen(o)
	case r.Template != "":
		var sb strings.Builder
		err := eachPart(r.Template, func(lit string) { sb.WriteString(lit) }, func(name string) error {
			v, err := o.need(name)
			sb.WriteString(v.Text())
			return err
		})
		if err != nil {
			return nil, err
		}
		return Input{TextValue(sb.String())}, nil
	case len(r.Fields) > 0:
		in := make(Input, len(r.Fields))
		for i, name := range r.Fields {
			v, err := o.need(name)
			if err != nil {
				return nil, err
			}
			in[i] = v
		}
		return in, nil
	}
	v, err := o.need(r.field())
	if err != nil {
		return nil, err
	}
	return Input{v}, nil
}

// ErrField is returned when an object lacks a field that an encoder, a
// template or a key extractor reads.
var ErrField = errors.New("field is missing")

func (o Object) need(name string) (Value, error) {
	v := o.Field(name)
	if v.IsZero() {
		return v, fmt.Errorf("%w: %q (the object has %q)", ErrField, name, o.Names())
	}
	return v, nil
}

// eachPart walks a template: literal texts and field names in turn.
func eachPart(tmpl string, lit func(string), name func(string) error) error {
	for rest := tmpl; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			lit(rest)
			return nil
		}
		lit(rest[:i])
		switch {
		case strings.HasPrefix(rest[i:], "{{"), strings.HasPrefix(rest[i:], "}}"):
			lit(rest[i : i+1])
			rest = rest[i+2:]
		case rest[i] == '}':
			return fmt.Errorf("template %q: unmatched }, write }} for a brace", tmpl)
		default:
			j := strings.IndexByte(rest[i:], '}')
			if j < 2 {
				return fmt.Errorf("template %q: unmatched or empty {, write {{ for a brace", tmpl)
			}
			if err := name(rest[i+1 : i+j]); err != nil {
				return err
			}
			rest = rest[i+j+1:]
		}
	}
	return nil
}
