package arrowipc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// MaxBuffer is the largest buffer that is read where [Reader].Limit says
// nothing else, in bytes when decompressed.
const MaxBuffer = 1 << 30

// maxRows bounds the rows of a record batch, which nulls do not show in bytes.
const maxRows = 1 << 40

// batch is the message of a record batch, with where its body is.
type batch struct {
	table
	r         io.ReaderAt
	body      int64 // where it is in the file
	size      int64
	old       bool // before version 5 of the format: unions have validity
	rows      int64
	most      int64 // bytes of a buffer
	node, buf int   // the next ones
	view      int
}

// next places of the three vectors of a record batch.
const (
	slotLength = iota
	slotNodes
	slotBuffers
	slotCompression
	slotViews
)

// Codecs of buffers.
const (
	codecNone = -1
	codecLZ4  = 0
	codecZstd = 1
)

func (b *batch) codec() (int, error) {
	c := b.table.table(slotCompression)
	if c.absent() {
		return codecNone, nil
	}
	codec := int(int8(c.byte(0)))
	if codec != codecLZ4 && codec != codecZstd || c.byte(1) != 0 {
		return 0, fmt.Errorf("buffers in the unknown codec %d", codec)
	}
	return codec, nil
}

var errBatch = errors.New("malformed record batch")

// nextNode returns the length of the next field's array.
func (b *batch) nextNode() (int64, error) {
	at, n := b.vector(slotNodes, 16)
	if b.node >= n {
		return 0, fmt.Errorf("%w: %d arrays", errBatch, n)
	}
	length := b.f.i64(at + 16*b.node)
	b.node++
	if length < 0 || length > maxRows {
		return 0, fmt.Errorf("%w: an array of %d values", errBatch, length)
	}
	return length, nil
}

// nextViews returns the number of data buffers of the next field of views.
func (b *batch) nextViews() (int, error) {
	at, n := b.vector(slotViews, 8)
	_, buffers := b.vector(slotBuffers, 16)
	if b.view >= n {
		return 0, fmt.Errorf("%w: %d counts of view buffers", errBatch, n)
	}
	count := b.f.i64(at + 8*b.view)
	b.view++
	if count < 0 || count > int64(buffers) {
		return 0, fmt.Errorf("%w: %d view buffers", errBatch, count)
	}
	return int(count), nil
}

// nextBuffer reads the next buffer, of which the first most bytes may be all
// that is wanted.
func (b *batch) nextBuffer(most int64) ([]byte, error) {
	at, n := b.vector(slotBuffers, 16)
	if b.buf >= n {
		return nil, fmt.Errorf("%w: %d buffers", errBatch, n)
	}
	offset, size := b.f.i64(at+16*b.buf), b.f.i64(at+16*b.buf+8)
	b.buf++
	if offset < 0 || size < 0 || offset > b.size || size > b.size-offset {
		return nil, fmt.Errorf("%w: a buffer of %d bytes at %d of %d", errBatch, size, offset, b.size)
	}
	codec, err := b.codec()
	if err != nil {
		return nil, err
	}
	if size == 0 || most == 0 {
		return nil, nil
	}
	in := io.NewSectionReader(b.r, b.body+offset, size)
	if codec == codecNone {
		return b.readBuffer(in, min(size, most))
	}
	var head [8]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, fmt.Errorf("%w: a compressed buffer of %d bytes", errBatch, size)
	}
	plain := int64(binary.LittleEndian.Uint64(head[:]))
	if plain == -1 { // as it is, since compression did not make it smaller
		return b.readBuffer(in, min(size-8, most))
	}
	if plain < 0 {
		return nil, fmt.Errorf("%w: a buffer of %d bytes", errBatch, plain)
	}
	return b.decompress(codec, in, min(plain, most))
}

// fits refuses a buffer that is too large.
func (b *batch) fits(size int64) error {
	if size > b.most {
		return fmt.Errorf("a buffer of %d bytes, the limit is %d", size, b.most)
	}
	return nil
}

func (b *batch) readBuffer(r io.Reader, size int64) ([]byte, error) {
	if err := b.fits(size); err != nil {
		return nil, err
	}
	buf := make([]byte, size) // which the file has
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, noEOF(err)
	}
	return buf, nil
}

func (b *batch) decompress(codec int, in io.Reader, size int64) ([]byte, error) {
	if err := b.fits(size); err != nil {
		return nil, err
	}
	if codec == codecLZ4 {
		z := lz4Readers.Get().(*lz4.Reader)
		defer func() {
			z.Reset(nil) // to let go of the file
			lz4Readers.Put(z)
		}()
		z.Reset(in)
		return readGrowing(z, size)
	}
	z := zstdReaders.Get().(*zstd.Decoder)
	defer func() {
		_ = z.Reset(nil) // to let go of the file
		zstdReaders.Put(z)
	}()
	if err := z.Reset(in); err != nil {
		return nil, err
	}
	return readGrowing(z, size)
}

// Decompressors are dear to make. With a concurrency of 1 none has goroutines.
var (
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	zstdReaders = sync.Pool{New: func() any {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			panic(err) // the options are constants
		}
		return z
	}}
)

// readGrowing reads size bytes, with memory that grows as they come.
func readGrowing(r io.Reader, size int64) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(int(min(size, 1<<20)) + bytes.MinRead)
	n, err := buf.ReadFrom(io.LimitReader(r, size))
	if err != nil {
		return nil, fmt.Errorf("decompress a buffer: %w", err)
	}
	if n != size {
		return nil, fmt.Errorf("%w: a buffer has %d bytes, not %d", errBatch, n, size)
	}
	return buf.Bytes(), nil
}

// noEOF is the error of a file that is shorter than it says.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
