package source

import (
	"context"
	"os"
	"strings"
)

// Sizer is a source that knows about how much a pass reads.
type Sizer interface {
	// Size returns about how many bytes a pass reads, uncompressed, or -1 if
	// that is not known without reading.
	Size(ctx context.Context) int64
}

// Size is s.Size where s is a [Sizer], else -1.
func Size[T any](ctx context.Context, s Source[T]) int64 {
	if z, ok := s.(Sizer); ok {
		return z.Size(ctx)
	}
	return -1
}

// shrinks is by how much compression is thought to make a file smaller.
const shrinks = 8

// size adds up the sizes of the files, which are compressed all or as their
// names say.
func (f *fileSet) size(ctx context.Context, compressed bool) int64 {
	paths, err := f.paths()
	if err != nil {
		return -1
	}
	var n int64
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || ctx.Err() != nil {
			return -1
		}
		size := info.Size()
		if compressed || strings.HasSuffix(path, ".gz") || strings.HasSuffix(path, ".zst") {
			size *= shrinks
		}
		n += size
	}
	return n
}

// Size implements [Sizer].
func (s *JSONLSource[T]) Size(ctx context.Context) int64 { return s.files.size(ctx, false) }

// Size implements [Sizer].
func (s *CSVSource[T]) Size(ctx context.Context) int64 { return s.files.size(ctx, false) }

// Size implements [Sizer].
func (s *ParquetSource[T]) Size(ctx context.Context) int64 { return s.files.size(ctx, true) }

// Size implements [Sizer].
func (s *ArrowSource[T]) Size(ctx context.Context) int64 { return s.files.size(ctx, true) }

// Size implements [Sizer]: that of the whole source.
func (l *limit[T]) Size(ctx context.Context) int64 { return Size(ctx, l.Source) }

// Size implements [Sizer].
func (c concat[T]) Size(ctx context.Context) (n int64) {
	for _, s := range c {
		size := Size(ctx, s)
		if size < 0 {
			return -1
		}
		n += size
	}
	return n
}
