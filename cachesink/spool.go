package cachesink

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// spoolMemory is how many bytes of a shard's objects are held in memory
// while the shard is being put together; what comes after goes to a scratch
// file.
const spoolMemory = 1 << 20

// spool holds the inputs of the objects of one shard, in order, until they
// are encoded. It is written once and then read once.
type spool struct {
	st   store.Store
	mem  []byte // length (4 bytes) and bytes of each input; outside the heap
	n    int    // bytes of mem in use
	file store.Scratch
	size int64 // of file
}

func (s *spool) append(ctx context.Context, input []byte) (err error) {
	if s.mem == nil {
		if s.mem, err = allocate(spoolMemory); err != nil {
			return err
		}
	}
	var head [4]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(input)))
	if s.n+len(head)+len(input) > len(s.mem) {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	s.n += copy(s.mem[s.n:], head[:])
	if len(input) > len(s.mem)-s.n {
		if err := s.flush(ctx); err != nil {
			return err
		}
		return s.write(input)
	}
	s.n += copy(s.mem[s.n:], input)
	return nil
}

// bytes is the size of all that was appended.
func (s *spool) bytes() int64 { return s.size + int64(s.n) }

// flush moves what is in memory to the scratch file.
func (s *spool) flush(ctx context.Context) error {
	if s.file == nil {
		f, err := s.st.Scratch(ctx)
		if err != nil {
			return fmt.Errorf("make a scratch file in %s: %w", s.st, err)
		}
		s.file = f
	}
	err := s.write(s.mem[:s.n])
	s.n = 0
	return err
}

// park frees the spool's memory until it is read.
func (s *spool) park(ctx context.Context) error {
	if s.n > 0 {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	free(s.mem)
	s.mem = nil
	return nil
}

func (s *spool) write(b []byte) error {
	n, err := s.file.Write(b)
	s.size += int64(n)
	if err != nil {
		return fmt.Errorf("write a scratch file in %s: %w", s.st, err)
	}
	return nil
}

// reader returns a function that gives the inputs in turn; each is valid
// until the next call.
func (s *spool) reader() func() ([]byte, error) {
	var parts []io.Reader
	if s.file != nil {
		parts = append(parts, io.NewSectionReader(s.file, 0, s.size))
	}
	parts = append(parts, bytes.NewReader(s.mem[:s.n]))
	r := bufio.NewReaderSize(io.MultiReader(parts...), 256<<10)
	var buf []byte
	return func() ([]byte, error) {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, fmt.Errorf("read a scratch file in %s: %w", s.st, err)
		}
		n := int(binary.LittleEndian.Uint32(head[:]))
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(r, buf); err != nil {
			return nil, fmt.Errorf("read a scratch file in %s: %w", s.st, err)
		}
		return buf, nil
	}
}

// close ends the spool; what the reader has given is no longer valid.
func (s *spool) close() error {
	free(s.mem)
	s.mem, s.n = nil, 0
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}
