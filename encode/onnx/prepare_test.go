package onnx

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

// openPreparer opens a preparer of a model whose library is not there, so
// that no session could be opened.
func openPreparer(t testing.TB, o Options) encode.Preparer {
	t.Helper()
	o.Library = filepath.Join(t.TempDir(), "none.so")
	m := o.Model()
	if enc, err := m.Open(t.Context(), 0); err == nil {
		t.Error("it opens without a library", enc.Close())
	}
	p, err := m.(encode.Preparing).OpenPreparer(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestPreparedTexts(t *testing.T) {
	for _, name := range []string{"tiny", "open", "fixed"} {
		p := openPreparer(t, Options{Path: filepath.Join("testdata", name)})
		out := []byte("before")
		for _, tc := range []struct {
			text string
			want []uint32
		}{
			{"the cat sat", []uint32{2, 12, 13, 14, 3}},
			{"", []uint32{2, 3}},
			{strings.Repeat("cat ", 40), slices.Concat([]uint32{2}, slices.Repeat([]uint32{13}, 10), []uint32{3})},
		} {
			from := len(out)
			var size int
			var err error
			out, size, err = p.Prepare(out, encode.Input{encode.TextValue(tc.text)})
			if err != nil {
				t.Fatal(err)
			}
			var ids []uint32
			for b := out[from:]; len(b) >= 4; b = b[4:] {
				ids = append(ids, binary.LittleEndian.Uint32(b))
			}
			if !slices.Equal(ids, tc.want) || size != len(tc.want) || !bytes.HasPrefix(out, []byte("before")) {
				t.Errorf("%s: %.20q gives %v of size %d, want %v", name, tc.text, ids, size, tc.want)
			}
		}
	}
}

func TestPreparedPictures(t *testing.T) {
	inputs, _ := pictures(t)
	for path, want := range map[string]int{vision: 3 * 32 * 32 * 4, "testdata/vision_half": 3 * 32 * 32 * 2} {
		p := openPreparer(t, Options{Path: path})
		for _, in := range inputs {
			out, size, err := p.Prepare([]byte("odd"), in)
			if err != nil || size != 1 || len(out) != 3+want {
				t.Errorf("%s: %d bytes of size %d, want %d (%v)", path, len(out), size, 3+want, err)
			}
		}
		for _, in := range []encode.Input{{encode.BytesValue([]byte("hello"))}, {encode.TextValue("hello")}, nil} {
			if out, _, err := p.Prepare([]byte("odd"), in); err == nil || string(out) != "odd" {
				t.Errorf("%s: %v gives %d bytes, %v", path, in, len(out), err)
			}
		}
	}
}

// counter is a session that gives nothing but zeros.
type counter struct{ runs int }

func (c *counter) run([]tensor, tensor) error       { c.runs++; return nil }
func (c *counter) shape([]tensor) ([]int64, error)  { return nil, nil }
func (c *counter) watch(context.Context) (f func()) { return func() {} }
func (c *counter) close() error                     { return nil }

// counted is an encoder over a counter.
func counted(t testing.TB, path string) (*encoder, *counter) {
	t.Helper()
	o := Options{Path: path}
	s, err := o.read(t.Context())
	if err == nil {
		err = s.finish(o)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{}
	return newEncoder(s, c), c
}

// TestBadPrepared: what no preparer of the model has made is an error, and
// nothing of it comes to a session.
func TestBadPrepared(t *testing.T) {
	id := func(ids ...uint32) (b []byte) {
		for _, id := range ids {
			b = binary.LittleEndian.AppendUint32(b, id)
		}
		return b
	}
	for _, tc := range []struct {
		path      string
		good, bad []byte
		want      string
	}{
		{"testdata/tiny", id(2, 3), nil, "0 bytes are no prepared text"},
		{"testdata/tiny", id(2, 49, 3), id(2), "4 bytes"},
		{"testdata/tiny", id(2, 3), id(2, 3)[:7], "7 bytes"},
		{"testdata/tiny", id(make([]uint32, 12)...), id(make([]uint32, 13)...), "52 bytes"},
		{"testdata/tiny", id(2, 3), id(2, 60, 3), "the token 60, the last is"},
		{"testdata/tiny", id(2, 3), id(2, 1<<31+2, 3), "the token 2147483650"},
		{vision, make([]byte, 12288), make([]byte, 12287), "12287 bytes are no prepared picture, want 12288"},
		{vision, make([]byte, 12288), make([]byte, 6144), "6144 bytes"},
		{"testdata/vision_half", make([]byte, 6144), make([]byte, 12288), "want 6144"},
		{"testdata/vision_half", make([]byte, 6144), nil, "0 bytes"},
	} {
		e, c := counted(t, tc.path)
		dst := make([]float32, 2*e.Dim())
		err := e.EncodePrepared(t.Context(), [][]byte{tc.good, tc.bad}, dst)
		if err == nil || !strings.Contains(err.Error(), "input 1: ") || !strings.Contains(err.Error(), tc.want) || c.runs != 0 {
			t.Errorf("%s: error %v after %d runs, want one with %q", tc.path, err, c.runs, tc.want)
		}
		if err := e.EncodePrepared(t.Context(), [][]byte{tc.good, tc.good}, dst); err != nil || c.runs == 0 {
			t.Errorf("%s: the good ones give %v after %d runs", tc.path, err, c.runs)
		}
		if err := e.EncodePrepared(t.Context(), [][]byte{tc.good}, dst); err == nil {
			t.Errorf("%s: too much room is no error", tc.path)
		}
	}
}

// TestPadding: the rows of a run end in the token that the tokenizer's files
// name, which is not 0 here.
func TestPadding(t *testing.T) {
	e, _ := counted(t, "testdata/roberta")
	e.ends = []int{2, 6}
	e.ids = []int32{0, 2, 0, 7, 8, 2}
	e.setTexts([]int{1, 0})
	if got, want := view[int64](e.inputs[0].data), []int64{0, 7, 8, 2, 0, 2, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("ids %v, want %v", got, want)
	}
	if got, want := view[int64](e.inputs[1].data), []int64{1, 1, 1, 1, 1, 1, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("mask %v, want %v", got, want)
	}
}

func TestPreparerErrors(t *testing.T) {
	dir := copyOf(t, "tiny")
	if err := os.Remove(filepath.Join(dir, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		ctx  context.Context
		o    Options
		want string
	}{
		{t.Context(), Options{Path: dir}, "no tokenizer.json"},
		{t.Context(), Options{}, "no file or directory"},
		{ended, Options{Path: "testdata/tiny"}, "canceled"},
	} {
		if _, err := tc.o.Model().(encode.Preparing).OpenPreparer(tc.ctx, 0); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want one with %q", err, tc.want)
		}
	}
}

// FuzzPrepared encodes arbitrary bytes as if a preparer had made them.
func FuzzPrepared(f *testing.F) {
	text, _ := counted(f, "testdata/tiny")
	picture, _ := counted(f, "testdata/vision_half")
	f.Add([]byte{2, 0, 0, 0, 13, 0, 0, 0, 3, 0, 0, 0})
	f.Add(make([]byte, 6144))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range []*encoder{text, picture} {
			err := e.EncodePrepared(t.Context(), [][]byte{b}, make([]float32, e.Dim()))
			if ok := len(b) == 6144; e == picture && ok != (err == nil) {
				t.Errorf("%d bytes give %v", len(b), err)
			}
			if err == nil && e == text && (len(b) < 8 || len(b) > 48) {
				t.Errorf("%d bytes are a text", len(b))
			}
		}
	})
}
