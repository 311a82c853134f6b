package cachesink

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// spoolMemory is how many bytes of a shard's objects are held in memory
// while the shard is being put together; what comes after goes to a scratch
// file.
const spoolMemory = 4 << 20

// spool holds the inputs of the objects of one shard, in order, until they
// are encoded. It is written once and then read once.
type spool struct {
	st   store.Store
	mem  []byte // length (4 bytes) and bytes of each input
	file store.Scratch
	size int64 // of file
}

func (s *spool) append(ctx context.Context, input []byte) error {
	s.mem = binary.LittleEndian.AppendUint32(s.mem, uint32(len(input)))
	s.mem = append(s.mem, input...)
	if len(s.mem) < spoolMemory {
		return nil
	}
	return s.flush(ctx)
}

func (s *spool) flush(ctx context.Context) error {
	if s.file == nil {
		f, err := s.st.Scratch(ctx)
		if err != nil {
			return fmt.Errorf("make a scratch file in %s: %w", s.st, err)
		}
		s.file = f
	}
	n, err := s.file.Write(s.mem)
	s.size += int64(n)
	if err != nil {
		return fmt.Errorf("write a scratch file in %s: %w", s.st, err)
	}
	s.mem = s.mem[:0]
	return nil
}

// reader returns a function that gives the inputs in turn; each is valid
// until the next call.
func (s *spool) reader() func() ([]byte, error) {
	var parts []io.Reader
	if s.file != nil {
		parts = append(parts, io.NewSectionReader(s.file, 0, s.size))
	}
	mem := s.mem
	parts = append(parts, readerFunc(func(b []byte) (int, error) {
		if len(mem) == 0 {
			return 0, io.EOF
		}
		n := copy(b, mem)
		mem = mem[n:]
		return n, nil
	}))
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

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func (s *spool) close() error {
	s.mem = nil
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}
