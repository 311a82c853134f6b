package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func sample() []Tensor {
	big := make([]float32, 3*chunk+7)
	for i := range big {
		big[i] = float32(i) / 3
	}
	return []Tensor{
		{Name: "z.weight", Shape: []int{2, 2}, Data: []float32{1, -2.5, float32(math.Inf(1)), math.SmallestNonzeroFloat32}},
		{Name: "a \"quoted\" <name>", Shape: []int{3, 0}},
		{Name: "scalar", Data: []float32{42}},
		{Name: "m", Shape: []int{len(big)}, Data: big},
	}
}

func readAll(r io.Reader) (map[string]Tensor, map[string]string, error) {
	got := map[string]Tensor{}
	meta, err := Read(r, func(name string, shape []int) ([]float32, error) {
		n := 1
		for _, s := range shape {
			n *= s
		}
		if n > 1<<20 {
			return nil, errors.New("too large for the test")
		}
		t := Tensor{name, slices.Clone(shape), make([]float32, n)}
		got[name] = t
		return t.Data, nil
	})
	return got, meta, err
}

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, sample(), map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(b.Bytes()); n%8 != 0 {
		t.Errorf("the header has %d bytes, so values are not aligned to 8", n)
	}
	got, meta, err := readAll(halfReader{bytes.NewReader(b.Bytes())})
	if err != nil {
		t.Fatal(err)
	}
	if meta["format"] != "pt" || len(got) != 4 {
		t.Errorf("got metadata %v and %d tensors", meta, len(got))
	}
	for _, want := range sample() {
		if g := got[want.Name]; !slices.Equal(g.Data, want.Data) || !slices.Equal(g.Shape, want.Shape) {
			t.Errorf("tensor %q came back as shape %v", want.Name, g.Shape)
		}
	}
	var again bytes.Buffer
	shuffled := sample()
	slices.Reverse(shuffled)
	if err := Write(&again, shuffled, map[string]string{"format": "pt"}); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Errorf("the bytes depend on the order of tensors (%v)", err)
	}
}

// halfReader reads about half of what it is asked for, as a network might.
type halfReader struct{ r io.Reader }

func (o halfReader) Read(b []byte) (int, error) { return o.r.Read(b[:(len(b)+1)/2]) }

func TestWriteRefuses(t *testing.T) {
	for name, tensors := range map[string][]Tensor{
		"no name":      {{Shape: []int{1}, Data: []float32{1}}},
		"reserved":     {{Name: "__metadata__", Shape: []int{1}, Data: []float32{1}}},
		"twice":        {{Name: "a"}, {Name: "a"}},
		"wrong shape":  {{Name: "a", Shape: []int{2}, Data: []float32{1}}},
		"negative":     {{Name: "a", Shape: []int{-1, -1}, Data: []float32{1}}},
		"overflow":     {{Name: "a", Shape: []int{1 << 31, 1 << 31, 1 << 31}, Data: nil}},
		"huge headers": {{Name: strings.Repeat("a", maxHeader), Data: []float32{1}}},
	} {
		if err := Write(io.Discard, tensors, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// file makes a file of a header and n bytes.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

func TestReadRefuses(t *testing.T) {
	const a = `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	lies := binary.LittleEndian.AppendUint64(nil, 1<<40)
	cases := map[string][]byte{
		"empty":                 nil,
		"short length":          {1, 2, 3},
		"header longer by far":  lies,
		"header cut":            file(a+"}", 8)[:20],
		"no object":             file(`[]`, 0),
		"header of spaces":      file(`   `, 0),
		"two values":            file(a+"}{}", 8),
		"not closed":            file(a, 8),
		"values cut":            file(a+"}", 7),
		"bytes behind":          file(a+"}", 9),
		"other dtype":           file(`{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}`, 4),
		"no offsets":            file(`{"a":{"dtype":"F32","shape":[0]}}`, 0),
		"offsets behind shape":  file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,12]}}`, 12),
		"begins late":           file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8),
		"negative offsets":      file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, 8),
		"negative shape":        file(`{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}`, 4),
		"shape overflows":       file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,0]}}`, 0),
		"overlap":               file(a+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12),
		"same place":            file(a+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8),
		"gap":                   file(a+`,"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}`, 16),
		"twice":                 file(a+`,"a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, 12),
		"metadata of numbers":   file(`{"__metadata__":{"a":1}}`, 0),
		"entry is a string":     file(`{"a":"b"}`, 0),
		"more values than room": file(`{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}`, 8),
	}
	for name, b := range cases {
		_, _, err := readAll(bytes.NewReader(b))
		if name == "more values than room" {
			if err == nil || errors.Is(err, ErrFormat) {
				t.Errorf("%s: got %v, want the reader's own error", name, err)
			}
			continue
		}
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v, want ErrFormat", name, err)
		}
	}
	if got, _, err := readAll(bytes.NewReader(file(a+"}  ", 8))); err != nil || len(got) != 1 {
		t.Errorf("a padded header: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, sample()[:3], map[string]string{"k": "v"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8))
	f.Add(file(`{}`, 0))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, meta, err := readAll(bytes.NewReader(in))
		if err != nil {
			return
		}
		var tensors []Tensor
		for _, g := range got {
			tensors = append(tensors, g)
		}
		var out bytes.Buffer
		if _, reserved := got[""]; reserved {
			return
		}
		if err := Write(&out, tensors, meta); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, _, err := readAll(bytes.NewReader(out.Bytes()))
		if err != nil || len(again) != len(got) {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}
