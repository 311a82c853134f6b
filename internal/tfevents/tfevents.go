// Package tfevents writes the event files that TensorBoard reads: TFRecords,
// each a length, its checksum, an Event in the protocol buffers' wire format
// and its checksum. It writes scalars only.
package tfevents

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"time"
)

// Writer writes events. Each method writes one record by one call of Write,
// so that a file that grows is whole up to its last record.
type Writer struct {
	w   io.Writer
	now func() time.Time
	buf []byte
}

// New writes the first record of an event file, its version. now dates the
// events.
func New(w io.Writer, now func() time.Time) (*Writer, error) {
	t := &Writer{w: w, now: now}
	return t, t.event(0, fileVersion, []byte("brain.Event:2"))
}

// Scalar is a number under a tag, such as "train/loss".
type Scalar struct {
	Tag   string
	Value float64 // stored in float32
}

// Scalars writes numbers of a step.
func (w *Writer) Scalars(step int64, values ...Scalar) error {
	var summary []byte
	for _, v := range values {
		value := appendBytes(nil, valueTag, []byte(v.Tag))
		value = binary.AppendUvarint(value, simpleValue<<3|fixed32)
		value = binary.LittleEndian.AppendUint32(value, math.Float32bits(float32(v.Value)))
		summary = appendBytes(summary, summaryValue, value)
	}
	return w.event(step, eventSummary, summary)
}

// Restart says that what earlier files have from that step on is replaced by
// what follows.
func (w *Writer) Restart(step int64) error {
	return w.event(step, sessionLog, []byte{sessionStatus<<3 | varint, sessionStart})
}

// Numbers of fields and types of the wire format, of the messages Event,
// Summary, Summary.Value and SessionLog.
const (
	wallTime, eventStep, fileVersion, eventSummary, sessionLog = 1, 2, 3, 5, 7

	summaryValue, valueTag, simpleValue = 1, 1, 2
	sessionStatus, sessionStart         = 1, 1

	varint, fixed64, lengthPrefixed, fixed32 = 0, 1, 2, 5
)

// event writes an Event of which one field has that content.
func (w *Writer) event(step int64, field int, content []byte) error {
	seconds := float64(w.now().UnixMicro()) / 1e6
	e := binary.AppendUvarint(nil, wallTime<<3|fixed64)
	e = binary.LittleEndian.AppendUint64(e, math.Float64bits(seconds))
	if step != 0 {
		e = binary.AppendUvarint(e, eventStep<<3|varint)
		e = binary.AppendUvarint(e, uint64(step))
	}
	e = appendBytes(e, field, content)

	b := binary.LittleEndian.AppendUint64(w.buf[:0], uint64(len(e)))
	b = binary.LittleEndian.AppendUint32(b, masked(b))
	b = append(b, e...)
	b = binary.LittleEndian.AppendUint32(b, masked(e))
	w.buf = b
	_, err := w.w.Write(b)
	return err
}

func appendBytes(dst []byte, field int, content []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(field)<<3|lengthPrefixed)
	dst = binary.AppendUvarint(dst, uint64(len(content)))
	return append(dst, content...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is the checksum of TFRecords: CRC-32C, rotated by 15 bits and
// shifted by a constant.
func masked(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}
