package encode

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// TestIdentityVectors are ids that caches hold: they must never change.
func TestIdentityVectors(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   Input
		want string
	}{
		{"nothing", Input{}, "05fcffc08da15b005fa1951246ff8b2325dcff8da66f0c8ce7a9a9b717ef1fa6"},
		{"empty text", Input{TextValue("")}, "d632092ca5b2a87c05fc89a99559a8e0dc8e37d7719a20c8f53aa829084fcf42"},
		{"text", Input{TextValue("hello")}, "c152941eb6a343c3db7667f7ac9c38a558e3040f2ad6e7296269d8e8483c33f5"},
		{"text of bytes", Input{BytesValue([]byte("hello"))}, "c056b746a08f8da1808800b5cd85934784e952dcb01c2bedc5bc9e573fc0125e"},
		{"two texts", Input{TextValue("hel"), TextValue("lo")}, "795eee0abf191e26b8c61eaee680dc5a558d4ed90978fe1900a2eb0ca011326e"},
		{"unicode", Input{TextValue("naïve 日本 \U0001f600")}, "d7a360ccf7ac7b5324352601094cb4deaac3d0defb630a0ad38a492cb5cec4aa"},
		{"number", Input{NumberValue(1.5)}, "22c362044e47f1067cfa58ea9a5671d197aee8a6a3564b1b581800f2bcfd026f"},
		{"zero", Input{NumberValue(0)}, "bad3dad362d0ceeb8dc460797a6786c3ab5ff36f9ccbe56926577bdedff223d8"},
		{"all kinds", Input{TextValue("a"), NumberValue(-2), BytesValue([]byte{0, 255})}, "01a402899edf3ed449b43fe4fe76c1010951842d6e1e079941cbf581f92df23d"},
		{"long", Input{TextValue(strings.Repeat("x", 100_000))}, "e56649afac248513a76c33e19cde779d360a91a4b8f9a75fb0e2d50fadeddf9e"},
	} {
		if got := Identify(AppendInput(nil, tc.in)).String(); got != tc.want {
			t.Errorf("%s: id %s, want %s", tc.name, got, tc.want)
		}
	}
	zero, one := AppendInput(nil, Input{NumberValue(0)}), AppendInput(nil, Input{NumberValue(math.Copysign(0, -1))})
	if !bytes.Equal(zero, one) {
		t.Error("two zeros")
	}
	nan, other := AppendInput(nil, Input{NumberValue(math.NaN())}), AppendInput(nil, Input{NumberValue(math.Float64frombits(0xfff8000000000001))})
	if !bytes.Equal(nan, other) {
		t.Error("two NaNs")
	}
}

// TestIdentitiesDiffer: no two inputs of a few odd ones share their form.
func TestIdentitiesDiffer(t *testing.T) {
	inputs := []Input{
		{},
		{TextValue("")},
		{BytesValue(nil)},
		{TextValue(""), TextValue("")},
		{TextValue("ab")},
		{TextValue("a"), TextValue("b")},
		{TextValue("b"), TextValue("a")},
		{TextValue("a b")},
		{NumberValue(1)},
		{TextValue("1")},
		{NumberValue(2)},
		{TextValue("t\x01\x00\x00\x00\x00\x00\x00\x00a")},
		{TextValue("a\x00")},
		{TextValue("a")},
	}
	seen := map[ID]int{}
	for i, in := range inputs {
		id := Identify(AppendInput(nil, in))
		if j, ok := seen[id]; ok {
			t.Errorf("%v and %v are one", in, inputs[j])
		}
		seen[id] = i
	}
}

func FuzzInput(f *testing.F) {
	f.Add(AppendInput(nil, Input{TextValue("a"), NumberValue(3), BytesValue([]byte{1})}))
	f.Add([]byte{'t', 255, 255, 255, 255, 255, 255, 255, 255, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := ParseInput(b)
		if err != nil {
			return
		}
		again := AppendInput(nil, in)
		back, err := ParseInput(again)
		if err != nil || !bytes.Equal(AppendInput(nil, back), again) || len(again) != len(b) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
	})
}

func TestParseInputRefuses(t *testing.T) {
	good := AppendInput(nil, Input{TextValue("ab"), NumberValue(1)})
	for n := 1; n < len(good); n++ {
		if in, err := ParseInput(good[:n]); err == nil && n != 11 {
			t.Errorf("%d bytes gave %v", n, in)
		}
	}
	for _, bad := range []string{"x\x00\x00\x00\x00\x00\x00\x00\x00", "n\x01\x00\x00\x00\x00\x00\x00\x00a"} {
		if _, err := ParseInput([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestReads(t *testing.T) {
	o := Record(map[string]Value{"text": TextValue("T"), "title": TextValue("ti"), "n": NumberValue(2.5), "a b": TextValue("x")})
	for _, tc := range []struct {
		reads Reads
		want  []string
		text  string
	}{
		{Reads{}, []string{"T"}, "T"},
		{Reads{Field: "title"}, []string{"ti"}, "ti"},
		{Reads{Fields: []string{"n", "title"}}, []string{"2.5", "ti"}, "2.5 ti"},
		{Reads{Template: "query: {text}"}, []string{"query: T"}, "query: T"},
		{Reads{Template: "{title}{n}: {{x}} {a b}"}, []string{"ti2.5: {x} x"}, "ti2.5: {x} x"},
	} {
		in, err := tc.reads.Input(o)
		if err != nil {
			t.Errorf("%s: %v", tc.reads, err)
			continue
		}
		var got []string
		for _, v := range in {
			got = append(got, v.Text())
		}
		if !slices.Equal(got, tc.want) || in.Text() != tc.text || tc.reads.Validate() != nil {
			t.Errorf("%s: %q, text %q, %v", tc.reads, got, in.Text(), tc.reads.Validate())
		}
	}
	for _, r := range []Reads{{Field: "no"}, {Fields: []string{"text", "no"}}, {Template: "{text} {no}"}} {
		_, err := r.Input(o)
		if !errors.Is(err, ErrField) || !strings.Contains(err.Error(), `"no"`) || !strings.Contains(err.Error(), "title") {
			t.Errorf("%s: error %v", r, err)
		}
	}
	for _, r := range []Reads{
		{Template: "no field"},
		{Template: "{text"},
		{Template: "text}"},
		{Template: "{}"},
		{Template: "{{text}}"},
		{Field: "a", Template: "{b}"},
		{Field: "a", Fields: []string{"b"}},
	} {
		if r.Validate() == nil {
			t.Errorf("%+v was accepted", r)
		}
	}
	if a, b := (Reads{Fields: []string{"a b"}}).String(), (Reads{Fields: []string{"a", "b"}}).String(); a == b {
		t.Errorf("%s stands for two", a)
	}
	if a, b := (Reads{}).String(), (Reads{Field: "text"}).String(); a != b {
		t.Errorf("%s and %s are the same", a, b)
	}
}

func TestKeys(t *testing.T) {
	o := Record(map[string]Value{"text": TextValue("日本 the text"), "a": TextValue(`x|y\`), "b": NumberValue(7)})
	id := Identify(nil)
	for spec, want := range map[string]string{
		"": id.String(), "content": id.String(), "field:b": "7", "field:a": `x|y\`, "fields:a,b": `x\|y\\|7`,
		"prefix:text:3": "日本 ", "prefix:text:100": "日本 the text", "prefix:b:1": "7",
	} {
		k, err := ParseKey(spec)
		if err != nil {
			t.Errorf("%q: %v", spec, err)
			continue
		}
		if got, err := k.value(o, id); err != nil || got != want {
			t.Errorf("%q: key %q, %v, want %q", spec, got, err, want)
		}
		if again, err := ParseKey(k.String()); err != nil || again.String() != k.String() || !k.Declared() {
			t.Errorf("%q: written %q, read %q, %v", spec, k, again, err)
		}
	}
	for _, spec := range []string{"x", "content:a", "index:1", "field:", "fields:a,", "prefix:text", "prefix:text:0", "prefix:text:-1", "prefix::3", "prefix:text:x", "field"} {
		if k, err := ParseKey(spec); err == nil {
			t.Errorf("%q gave %v", spec, k)
		}
	}
	own := KeyFunc(func(o Object) string { return o.Text()[:3] })
	if got, err := own.value(Text("abcd"), id); err != nil || got != "abc" || own.Declared() || own.Free() || own.String() != "func" {
		t.Errorf("own: %q, %v", got, err)
	}
	if _, err := own.value(Text("a日本"), id); err == nil {
		t.Error("a key that is not valid UTF-8 was taken")
	}
	missing, _ := ParseKey("fields:text,no")
	if _, err := missing.value(o, id); !errors.Is(err, ErrField) {
		t.Errorf("missing field: %v", err)
	}
	index, _ := ParseKey("index")
	if !index.Free() || !(Key{}).Free() {
		t.Error("content and index need no check")
	}
}

func TestObject(t *testing.T) {
	o := Record(map[string]Value{"b": NumberValue(1), "a": TextValue("x"), "gone": {}})
	with := o.With("c", BytesValue([]byte("y"))).With("a", TextValue("z"))
	if !slices.Equal(o.Names(), []string{"a", "b"}) || !slices.Equal(with.Names(), []string{"a", "b", "c"}) || o.Field("a").Text() != "x" || with.Field("a").Text() != "z" {
		t.Errorf("%v, %v", o, with)
	}
	if o.Text() != "" || Text("t").Text() != "t" || Record(map[string]Value{"only": TextValue("o")}).Text() != "o" {
		t.Error("the text of an object")
	}
	if b := with.Field("c").Bytes(); string(b) != "y" || o.Field("b").Bytes() != nil || !math.IsNaN(o.Field("a").Number()) || o.Field("b").Number() != 1 {
		t.Errorf("values of %v", with)
	}
	if s := Text(strings.Repeat("x", 1000)).String(); len(s) > 80 {
		t.Errorf("a message of %d bytes", len(s))
	}
}

func TestDeclared(t *testing.T) {
	good := Spec{Engine: "e", Dim: 3, Fields: []Field{{"weights", "abc"}, {"a", "1"}}}
	fields, err := good.Declared(16)
	if err != nil {
		t.Fatal(err)
	}
	want := []Field{{"a", "1"}, {"batch_size", "16"}, {"dim", "3"}, {"engine", "e"}, {"output_version", "0"}, {"weights", "abc"}}
	if !slices.Equal(fields, want) {
		t.Errorf("fields %v, want %v", fields, want)
	}
	if got := Fingerprint(fields); got != "018ffb43607fef420bda790b164c7c0468aaeb5ba561698091c807cf6cead8ee" {
		t.Errorf("fingerprint %s", got)
	}
	changed := map[string]Spec{
		"engine":  {Engine: "f", Dim: 3, Fields: good.Fields},
		"version": {Engine: "e", OutputVersion: 1, Dim: 3, Fields: good.Fields},
		"dim":     {Engine: "e", Dim: 4, Fields: good.Fields},
		"field":   {Engine: "e", Dim: 3, Fields: []Field{{"weights", "abd"}, {"a", "1"}}},
		"names":   {Engine: "e", Dim: 3, Fields: []Field{{"weightsa", "bc"}, {"a", "1"}}},
		"batch":   {Engine: "e", Dim: 3, Fields: good.Fields, BatchInvariant: true},
	}
	seen := map[string]string{Fingerprint(fields): "good"}
	for name, s := range changed {
		fields, err := s.Declared(16)
		if err != nil {
			t.Fatal(err)
		}
		fp := Fingerprint(fields)
		if other, ok := seen[fp]; ok {
			t.Errorf("%s has the fingerprint of %s", name, other)
		}
		seen[fp] = name
	}
	other, err := Spec{Engine: "e", Dim: 3, Fields: []Field{{"a", "1"}, {"weights", "abc"}}}.Declared(16)
	if err != nil || Fingerprint(other) != Fingerprint(fields) {
		t.Error("the order of fields counts")
	}
	for name, s := range map[string]Spec{
		"no field": {Engine: "e", Dim: 3}, "no engine": {Dim: 3, Fields: good.Fields}, "no dim": {Engine: "e", Fields: good.Fields},
		"twice": {Engine: "e", Dim: 3, Fields: []Field{{"a", "1"}, {"a", "2"}}}, "ours": {Engine: "e", Dim: 3, Fields: []Field{{"dim", "1"}}},
		"no name": {Engine: "e", Dim: 3, Fields: []Field{{"", "1"}}},
	} {
		if _, err := s.Declared(1); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := (Spec{Dim: 3}).Declared(1); !errors.Is(err, ErrNoFingerprint) {
		t.Errorf("error %v", err)
	}
}

func TestPrompt(t *testing.T) {
	o := Record(map[string]Value{"text": TextValue("{T}"), "title": TextValue("ti")})
	for _, tc := range []struct {
		reads  Reads
		prompt string
		want   string
	}{
		{Reads{}, "", "{T}"},
		{Reads{}, "query: ", "query: {T}"},
		{Reads{Field: "title"}, "a {text} }{ ", "a {text} }{ ti"},
		{Reads{Template: "{title}: {text}"}, "{", "{ti: {T}"},
	} {
		r, err := tc.reads.Prompt(tc.prompt)
		if err != nil {
			t.Fatal(err)
		}
		in, err := r.Input(o)
		if err != nil || in.Text() != tc.want || r.Validate() != nil {
			t.Errorf("%v with %q reads %q, %v; want %q", tc.reads, tc.prompt, in.Text(), err, tc.want)
		}
	}
	if r, err := (Reads{Fields: []string{"title"}}).Prompt("x"); err == nil {
		t.Errorf("a prompt before fields gives %v", r)
	}
}
