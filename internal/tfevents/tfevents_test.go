package tfevents

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// TestMasked: the checksums that TensorFlow's own tests hold it to: of 32
// zeros and of the numbers from 0 to 31, CRC-32C 0x8a9136aa and 0x46dd794e.
func TestMasked(t *testing.T) {
	up := make([]byte, 32)
	for i := range up {
		up[i] = byte(i)
	}
	for _, c := range []struct {
		b   []byte
		crc uint32
	}{{make([]byte, 32), 0x8a9136aa}, {up, 0x46dd794e}} {
		m := masked(c.b) - 0xa282ead8
		if back := m>>17 | m<<15; back != c.crc {
			t.Errorf("the checksum is %#x, want %#x", back, c.crc)
		}
	}
}

// field is one of a message in the wire format.
type field struct {
	number int
	value  uint64 // of numbers
	bytes  []byte
}

func fields(t *testing.T, b []byte) (out []field) {
	t.Helper()
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		b = b[n:]
		f := field{number: int(key >> 3)}
		switch key & 7 {
		case varint:
			f.value, n = binary.Uvarint(b)
			b = b[n:]
		case fixed64:
			f.value, b = binary.LittleEndian.Uint64(b), b[8:]
		case fixed32:
			f.value, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		case lengthPrefixed:
			size, n := binary.Uvarint(b)
			f.bytes, b = b[n:n+int(size)], b[n+int(size):]
		default:
			t.Fatalf("type %d", key&7)
		}
		out = append(out, f)
	}
	return out
}

// text is an event in words.
func text(t *testing.T, event []byte) string {
	t.Helper()
	var b strings.Builder
	for _, f := range fields(t, event) {
		switch f.number {
		case wallTime:
			fmt.Fprintf(&b, "at %v", math.Float64frombits(f.value))
		case eventStep:
			fmt.Fprintf(&b, " step %d", f.value)
		case fileVersion:
			fmt.Fprintf(&b, " version %s", f.bytes)
		case sessionLog:
			fmt.Fprintf(&b, " session %v", fields(t, f.bytes))
		case eventSummary:
			for _, v := range fields(t, f.bytes) {
				value := fields(t, v.bytes)
				fmt.Fprintf(&b, " %s=%v", value[0].bytes, math.Float32frombits(uint32(value[1].value)))
			}
		}
	}
	return b.String()
}

func TestEvents(t *testing.T) {
	var file bytes.Buffer
	w, err := New(&file, func() time.Time { return time.UnixMilli(1500) })
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("tag", 100) // lengths of two bytes
	err = errors.Join(
		w.Scalars(3, Scalar{"train/loss", 0.5}, Scalar{"train/lr", 1e-3}),
		w.Restart(1<<40),
		w.Scalars(4, Scalar{long, math.Inf(1)}),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"at 1.5 version brain.Event:2",
		"at 1.5 step 3 train/loss=0.5 train/lr=0.001",
		"at 1.5 step 1099511627776 session [{1 1 []}]",
		"at 1.5 step 4 " + long + "=+Inf",
	}
	b := file.Bytes()
	for _, want := range want {
		size := binary.LittleEndian.Uint64(b)
		if got := binary.LittleEndian.Uint32(b[8:]); got != masked(b[:8]) {
			t.Errorf("the checksum of a length is %#x", got)
		}
		event := b[12 : 12+size]
		if got := binary.LittleEndian.Uint32(b[12+size:]); got != masked(event) {
			t.Errorf("the checksum of an event is %#x", got)
		}
		if got := text(t, event); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		b = b[16+size:]
	}
	if len(b) > 0 {
		t.Errorf("%d bytes are left", len(b))
	}
}
