package protowire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// TestReadsWhatIsAppended: every kind of field comes back, with its place.
func TestReadsWhatIsAppended(t *testing.T) {
	inner := AppendFloat(AppendBytes(nil, 7, "name"), 2, -1.5)
	var b []byte
	b = AppendInt(b, 1, 300)
	b = AppendInt(b, 2, -1)
	b = AppendBytes(b, 3, inner)
	b = AppendHeader(b, 536870911, 2)
	b = append(b, 8, 9)
	var got []string
	r := NewReader(bytes.NewReader(b), int64(len(b)))
	end := int64(0)
	err := r.Each(func(f Field) error {
		if f.Start != end {
			t.Errorf("field %d begins at %d, the one before ends at %d", f.Number, f.Start, end)
		}
		end = f.To
		if f.Kind == Varint {
			got = append(got, fmt.Sprint(f.Number, "=", int64(f.Value)))
			return nil
		}
		if f.Number != 3 {
			got = append(got, fmt.Sprint(f.Number, "=", b[f.From:f.To]))
			return nil
		}
		return r.Message(f, func(f Field) error {
			if f.Kind == Fixed4 {
				got = append(got, fmt.Sprint(f.Number, "=", math.Float32frombits(binary.LittleEndian.Uint32(b[f.From:f.To]))))
				return nil
			}
			text, err := r.Text(f)
			got = append(got, fmt.Sprint(f.Number, "=", text))
			return err
		})
	})
	want := []string{"1=300", "2=-1", "7=name", "2=-1.5", "536870911=[8 9]"}
	if err != nil || !slices.Equal(got, want) || end != int64(len(b)) {
		t.Errorf("got %q to byte %d, %v; want %q", got, end, err, want)
	}
	// A cut message is an error, unless it is cut between fields.
	for n := range b {
		whole := map[int]bool{0: true, 3: true, 14: true, 14 + 2 + len(inner): true}[n]
		r := NewReader(bytes.NewReader(b[:n]), int64(n))
		if err := r.Each(func(Field) error { return nil }); whole != (err == nil) || err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	long := AppendBytes(nil, 1, strings.Repeat("a", maxText+1))
	for name, b := range map[string][]byte{
		"number 0":        {0, 0},
		"a group":         {1<<3 | 3},
		"an endless int":  bytes.Repeat([]byte{0x80}, 20),
		"too long a text": long,
		"text as int":     AppendInt(nil, 1, 5),
	} {
		r := NewReader(bytes.NewReader(b), int64(len(b)))
		if err := r.Each(func(f Field) error { _, err := r.Text(f); return err }); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
