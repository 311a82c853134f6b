package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// mixed is a file with a tensor of each float dtype and one of integers.
func mixed() []byte {
	b := file(`{"half":{"dtype":"F16","shape":[2,2],"data_offsets":[8,16]},"ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},`+
		`"brain":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},"single":{"dtype":"F32","shape":[2],"data_offsets":[22,30]}}`, 0)
	b = binary.LittleEndian.AppendUint64(b, 7)
	for _, h := range []uint16{0x3c00, 0xc000, 0x7bff, 0x0001, 0x3f80, 0xc000, 0x7f80} {
		b = binary.LittleEndian.AppendUint16(b, h)
	}
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(0.1))
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(-3))
}

func TestFileReadsFloats(t *testing.T) {
	b := mixed()
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]float32{
		"half":   {1, -2, 65504, 0x1p-24},
		"brain":  {1, -2, float32(math.Inf(1))},
		"single": {0.1, -3},
	}
	var names []string
	for _, info := range f.Tensors() {
		names = append(names, info.Name)
		w, float := want[info.Name]
		n := 1
		for _, s := range info.Shape {
			n *= s
		}
		got := make([]float32, n)
		err := f.Float32(got, info)
		if float && (err != nil || !slices.Equal(got, w)) {
			t.Errorf("%s: %v, %v; want %v", info.Name, got, err, w)
		}
		if !float && (err == nil || !strings.Contains(err.Error(), "I64")) {
			t.Errorf("%s: %v, want an error that names the dtype", info.Name, err)
		}
		if err := f.Float32(make([]float32, n+1), info); err == nil {
			t.Errorf("%s: no error for memory of another size", info.Name)
		}
	}
	if !slices.Equal(names, []string{"ids", "half", "brain", "single"}) {
		t.Errorf("the order is %v", names)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := mixed()
	for name, b := range map[string][]byte{
		"cut":           good[:len(good)-1],
		"bytes behind":  append(slices.Clone(good), 0),
		"unknown dtype": file(`{"a":{"dtype":"F7","shape":[8],"data_offsets":[0,7]}}`, 7),
		"huge tensor":   file(`{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}`, 8),
		"huge header":   binary.LittleEndian.AppendUint64(nil, math.MaxUint64),
		"width lies":    file(`{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,8]}}`, 8),
	} {
		if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}
