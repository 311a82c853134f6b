package source

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// lineReader reads lines of any length up to max bytes.
type lineReader struct {
	r    *bufio.Reader
	max  int
	line int64 // number of the line returned last, from 1
	long []byte
}

// keptOfLongLine is how much of a line that is too long goes into its error.
const keptOfLongLine = 4 << 10

// keptBuffer is the size up to which a buffer is kept for the next line.
const keptBuffer = 1 << 20

// tooLongError is a line longer than the limit.
type tooLongError struct{ max int }

func (e *tooLongError) Error() string {
	return fmt.Sprintf("longer than MaxLine, %d bytes", e.max)
}

// next returns the next line with its end ("\n", "\r\n" or none in the last);
// it is valid until the next call. The error is io.EOF after the last line, a
// *tooLongError beside the first bytes of a line that was skipped, or what the
// file gave.
func (l *lineReader) next() ([]byte, error) {
	part, err := l.r.ReadSlice('\n')
	if len(part) == 0 && err != nil {
		return nil, err
	}
	l.line++
	if err == nil || errors.Is(err, io.EOF) {
		if len(trimEnd(part)) > l.max {
			return part[:min(len(part), keptOfLongLine)], &tooLongError{l.max}
		}
		return part, nil
	}
	if cap(l.long) > keptBuffer {
		l.long = nil
	}
	l.long = l.long[:0]
	tooLong := false
	for errors.Is(err, bufio.ErrBufferFull) {
		// Two bytes more, because the end of the line does not count.
		if tooLong = tooLong || len(l.long)+len(part) > l.max+2; !tooLong {
			l.long = append(l.long, part...)
		} else if len(l.long) < keptOfLongLine {
			l.long = append(l.long, part[:min(len(part), keptOfLongLine-len(l.long))]...)
		}
		part, err = l.r.ReadSlice('\n')
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if tooLong || len(l.long)+len(trimEnd(part)) > l.max {
		return l.long[:min(len(l.long), keptOfLongLine)], &tooLongError{l.max}
	}
	l.long = append(l.long, part...)
	return l.long, nil
}

// trimEnd cuts the end of a line off.
func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}
