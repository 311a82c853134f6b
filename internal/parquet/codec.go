package parquet

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codecs by their numbers in the format.
const (
	codecNone   = 0
	codecSnappy = 1
	codecGzip   = 2
	codecLZO    = 3
	codecBrotli = 4
	codecLZ4    = 5
	codecZstd   = 6
	codecLZ4Raw = 7
)

var errSize = errors.New("a page has another size than its header says")

// decompress returns the size bytes that src holds.
func decompress(codec int32, src []byte, size int) ([]byte, error) {
	switch codec {
	case codecNone:
		if len(src) != size {
			return nil, errSize
		}
		return src, nil
	case codecSnappy:
		if n, err := snappy.DecodedLen(src); err != nil || n != size {
			return nil, errors.Join(errSize, err)
		}
		// An element of snappy stands for at most 64 bytes and takes 2.
		if size > 64*len(src) {
			return nil, errSize
		}
		return snappy.Decode(nil, src)
	case codecGzip:
		z, err := gzip.NewReader(bytes.NewReader(src))
		if err != nil {
			return nil, err
		}
		return readExactly(z, size)
	case codecZstd:
		z := zstdReaders.Get().(*zstd.Decoder)
		defer func() {
			_ = z.Reset(nil) // to let go of the page
			zstdReaders.Put(z)
		}()
		if err := z.Reset(bytes.NewReader(src)); err != nil {
			return nil, err
		}
		return readExactly(z, size)
	case codecLZ4Raw:
		return lz4Block(src, size)
	case codecLZ4:
		return lz4Hadoop(src, size)
	case codecBrotli:
		return nil, errors.New("brotli is not supported; write the file with zstd, snappy, gzip or lz4")
	case codecLZO:
		return nil, errors.New("LZO is not supported; write the file with zstd, snappy, gzip or lz4")
	default:
		return nil, fmt.Errorf("unknown codec %d", codec)
	}
}

// zstdReaders are dear to make. With a concurrency of 1 none has goroutines.
var zstdReaders = sync.Pool{New: func() any {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		panic(err) // the options are constants
	}
	return z
}}

// readExactly reads size bytes, with memory that grows as they come.
func readExactly(r io.Reader, size int) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(min(size, 1<<20) + bytes.MinRead)
	n, err := buf.ReadFrom(io.LimitReader(r, int64(size)+1))
	if err != nil {
		return nil, err
	}
	if n != int64(size) {
		return nil, errSize
	}
	return buf.Bytes(), nil
}

func lz4Block(src []byte, size int) ([]byte, error) {
	if size > 255*len(src)+64 { // a byte of a length stands for 255
		return nil, errSize
	}
	dst := make([]byte, size)
	n, err := lz4.UncompressBlock(src, dst)
	if err != nil {
		return nil, err
	}
	if n != size {
		return nil, errSize
	}
	return dst, nil
}

// lz4Hadoop reads the older LZ4: blocks that Hadoop framed by their big-endian
// sizes or, from some writers, one bare block.
func lz4Hadoop(src []byte, size int) ([]byte, error) {
	var out []byte
	for rest := src; len(rest) >= 8; {
		plain, packed := int(binary.BigEndian.Uint32(rest)), int(binary.BigEndian.Uint32(rest[4:]))
		rest = rest[8:]
		if packed > len(rest) || plain > size-len(out) {
			break
		}
		block, err := lz4Block(rest[:packed], plain)
		if err != nil {
			break
		}
		out, rest = append(out, block...), rest[packed:]
		if len(rest) == 0 && len(out) == size {
			return out, nil
		}
	}
	return lz4Block(src, size)
}
