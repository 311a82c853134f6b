package cachesink

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/ipc"
)

// DType is the type that embeddings are stored in. They are float32 before
// and after: a replayed batch never shows how they were stored.
type DType string

// The types of stored values.
const (
	Float32 DType = "float32" // as they were computed
	Float16 DType = "float16" // rounded to half precision
	Int8    DType = "int8"    // 8-bit integers with a scale a row
)

// ParseDType reads a storage type; the empty string is Float32.
func ParseDType(s string) (DType, error) {
	switch d := DType(s); d {
	case "":
		return Float32, nil
	case Float32, Float16, Int8:
		return d, nil
	}
	return "", fmt.Errorf("dtype %q is none of float32, float16, int8", s)
}

// RowBytes is what the id and the embedding of one object take, uncompressed.
func (d DType) RowBytes(dim int) int {
	switch d {
	case Float16:
		return 2*dim + idBytes
	case Int8:
		return dim + 4 + idBytes
	}
	return 4*dim + idBytes
}

// values is the Arrow type of one stored value.
func (d DType) values() arrow.DataType {
	switch d {
	case Float16:
		return arrow.FixedWidthTypes.Float16
	case Int8:
		return arrow.PrimitiveTypes.Int8
	}
	return arrow.PrimitiveTypes.Float32
}

// limit has the bits of the least magnitude that cannot be stored.
func (d DType) limit() uint32 {
	switch d {
	case Float16:
		return math.Float32bits(65520) // from here on it would round to infinity
	case Int8:
		return math.Float32bits(0x1p127) // 127 times the scale must not overflow
	}
	return math.Float32bits(float32(math.Inf(1)))
}

// Compression is how the buffers of a shard's record batches are compressed.
type Compression string

// The compressions, which are those of Arrow IPC.
const (
	Uncompressed Compression = "none"
	LZ4          Compression = "lz4"  // LZ4 frames
	Zstd         Compression = "zstd" // Zstandard frames
)

// ParseCompression reads a compression; the empty string is Uncompressed.
func ParseCompression(s string) (Compression, error) {
	switch c := Compression(s); c {
	case "":
		return Uncompressed, nil
	case Uncompressed, LZ4, Zstd:
		return c, nil
	}
	return "", fmt.Errorf("compression %q is none of none, lz4, zstd", s)
}

// codecOutput is bumped when a new version of a compression library gives
// other bytes, so that a shard's id keeps standing for its bytes. A test
// notices when that is forgotten.
var codecOutput = map[Compression]int{LZ4: 1, Zstd: 1}

// options are those of Arrow's writer. One goroutine compresses, so that the
// bytes depend on the data alone.
func (c Compression) options() []ipc.Option {
	switch c {
	case LZ4:
		return []ipc.Option{ipc.WithLZ4(), ipc.WithCompressConcurrency(1)}
	case Zstd:
		return []ipc.Option{ipc.WithZstd(), ipc.WithCompressConcurrency(1)}
	}
	return nil
}

// layout is all that decides the bytes of a shard beside its encoder, its
// objects and their batches.
type layout struct {
	dtype DType
	codec Compression
	// output is that of the codec which wrote the shard.
	output int
	// rows of a record batch; 0 for those of the default.
	rows int
	// converted tells which objects were converted from float32 where that
	// may give other bits than encoding them; see shardPlan.mark.
	converted string
}

// plain is the layout of format version 1.
var plain = layout{dtype: Float32, codec: Uncompressed}

// String is the layout as shard ids and manifests have it:
// dtype[+codec.output][/rows][<converted].
func (l layout) String() string {
	s := string(l.dtype)
	if l.codec != Uncompressed {
		s += fmt.Sprintf("+%s.%d", l.codec, l.output)
	}
	if l.rows > 0 {
		s += fmt.Sprintf("/%d", l.rows)
	}
	if l.converted != "" {
		s += "<" + l.converted
	}
	return s
}

// parseLayout reads what String gives, and nothing else.
func parseLayout(s string) (layout, error) {
	l := layout{codec: Uncompressed}
	rest, converted, _ := strings.Cut(s, "<")
	l.converted = converted
	rest, rows, ok := strings.Cut(rest, "/")
	if ok {
		l.rows, _ = strconv.Atoi(rows)
	}
	dtype, codec, ok := strings.Cut(rest, "+")
	if ok {
		name, output, _ := strings.Cut(codec, ".")
		l.codec = Compression(name)
		l.output, _ = strconv.Atoi(output)
	}
	l.dtype = DType(dtype)
	_, errD := ParseDType(dtype)
	_, errC := ParseCompression(string(l.codec))
	if errD != nil || errC != nil || dtype == "" || l.rows < 0 || l.rows > MaxRecordBatchRows || l.output < 0 || l.String() != s {
		return l, fmt.Errorf("storage %q", s)
	}
	return l, nil
}

const (
	// batchBytes is about the size of a shard's record batch.
	batchBytes = 16 << 20
	// maxBatchBytes bounds it where the number of rows is chosen.
	maxBatchBytes = 64 << 20
)

// batchRows is the number of rows in the record batches of a shard, the last
// of which may have less.
func (l layout) batchRows(dim int) int {
	if l.rows > 0 {
		return max(1, min(l.rows, maxBatchBytes/l.dtype.RowBytes(dim)))
	}
	return max(1, min(batchBytes/l.dtype.RowBytes(dim), 1<<16))
}
