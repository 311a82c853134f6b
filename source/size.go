package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
)

// Sizer is a source that can bound what a pass gives without parsing rows.
type Sizer interface {
	// Size returns the most rows that a pass gives, and the most bytes of all
	// their values, uncompressed; ok is false where nothing bounds them. With
	// count it may read the files for closer bounds than their sizes give. The
	// bounds hold for the files as they are now.
	Size(ctx context.Context, count bool) (rows, bytes int64, ok bool)
}

// Size is s.Size where s is a [Sizer]; else nothing bounds it.
func Size[T any](ctx context.Context, s Source[T], count bool) (rows, bytes int64, ok bool) {
	if z, is := s.(Sizer); is {
		return z.Size(ctx, count)
	}
	return 0, 0, false
}

// size bounds files of lines, a row of which has at least so many bytes with
// the end of its line.
func (f *fileSet) size(ctx context.Context, count bool, least int64) (rows, bytes int64, ok bool) {
	paths, err := f.paths()
	if err != nil {
		return 0, 0, false
	}
	for _, path := range paths {
		lines, size, err := sizeOfFile(ctx, path, count)
		if err != nil {
			return 0, 0, false
		}
		rows += min(lines, (size+1)/least) // the last line may have no end
		bytes += size
	}
	return rows, bytes, true
}

// errUnbounded is why the size of a file says nothing of its content.
var errUnbounded = errors.New("compressed, or no regular file")

// sizeOfFile returns the size of a file's content and, if they are counted,
// that of its lines.
func sizeOfFile(ctx context.Context, path string, count bool) (lines, size int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, 0, errUnbounded // a pass is all that it gives
	}
	file, err := openFile(path)
	if err != nil {
		return 0, 0, err
	}
	defer file.close()
	if !count {
		if file.packed {
			return 0, 0, errUnbounded
		}
		return math.MaxInt64, info.Size(), nil
	}
	buf := make([]byte, 256<<10)
	for r := (&contextReader{ctx, file}); ; {
		n, err := r.Read(buf)
		lines += int64(bytes.Count(buf[:n], []byte("\n")))
		size += int64(n)
		if errors.Is(err, io.EOF) {
			return lines + 1, size, nil
		}
		if err != nil {
			return 0, 0, err
		}
	}
}

// Size implements [Sizer]. The smallest row is {}.
func (s *JSONLSource[T]) Size(ctx context.Context, count bool) (rows, bytes int64, ok bool) {
	return s.files.size(ctx, count, 3)
}

// Size implements [Sizer]. The smallest row is one character.
func (s *CSVSource[T]) Size(ctx context.Context, count bool) (rows, bytes int64, ok bool) {
	return s.files.size(ctx, count, 2)
}

// Size implements [Sizer].
func (s *ImagesSource[T]) Size(ctx context.Context, _ bool) (rows, bytes int64, ok bool) {
	err := s.each(ctx, func(_, rel string, info os.FileInfo) error {
		rows++
		bytes += info.Size() + 3*int64(len(rel)) // the image, and of its path all, the folder and the name
		return nil
	})
	return rows, bytes, err == nil
}

// Size implements [Sizer]. It does not read the whole source for the bounds of
// some of its rows.
func (l *limit[T]) Size(ctx context.Context, _ bool) (rows, bytes int64, ok bool) {
	rows, bytes, ok = Size(ctx, l.Source, false)
	return min(rows, l.n), bytes, ok
}

// Size implements [Sizer].
func (c concat[T]) Size(ctx context.Context, count bool) (rows, bytes int64, ok bool) {
	for _, s := range c {
		r, b, ok := Size(ctx, s, count)
		if !ok {
			return 0, 0, false
		}
		rows, bytes = rows+r, bytes+b
	}
	return rows, bytes, true
}
