package source

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ImageRow is a row of [Images].
type ImageRow struct {
	Image    []byte `json:"image"`    // the file as it is, not decoded
	Label    string `json:"label"`    // the folder below the root that it is in
	Path     string `json:"path"`     // below the root, with slashes
	Filename string `json:"filename"` // the last part of Path
}

// imageColumns are the columns of a row in [Fields].
var imageColumns = []string{"image", "label", "path", "filename"}

// imageExtensions are those of the files that count.
var imageExtensions = []string{".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"}

// IsImage reports whether [Images] takes a file of that name for an image: by
// its extension, one of png, jpg, jpeg, gif, webp and bmp in any case.
func IsImage(name string) bool {
	return !strings.HasPrefix(filepath.Base(name), ".") && slices.Contains(imageExtensions, strings.ToLower(filepath.Ext(name)))
}

// ImagesSource is a [Source] over a folder of images; see [Images]. It is
// immutable and safe for concurrent use.
type ImagesSource[T any] struct {
	root string
	opts FileOptions
}

var _ Source[Fields] = (*ImagesSource[Fields])(nil)

// Images is the dataset of the image files in and below a folder. The label of
// one is the name of the folder below root that it is in, however deep:
// cat/1.png and cat/more/2.png are of the label "cat". An image in root itself
// has none: null in [Fields].
//
// T is [ImageRow], [Fields], or a struct with some of the columns image, label,
// path and filename by the rules of [Parquet]. Files are read as they are, one
// at a time, whatever is in them; see [IsImage] for which ones count. Rows are
// in the order of paths, folder by folder. What begins with a dot is left out.
// A link to a file is followed, one to a folder is not, and root may be one.
//
// A file that cannot be read, or has more than MaxLine bytes, is a [*RowError]
// that names it. A Pos has the file's path, and 1 for the line.
func Images[T any](root string) *ImagesSource[T] { return &ImagesSource[T]{root: root} }

// With returns a source over the same folder with options o.
func (s *ImagesSource[T]) With(o FileOptions) *ImagesSource[T] { return &ImagesSource[T]{s.root, o} }

// Name returns the folder as given.
func (s *ImagesSource[T]) Name() string { return s.root }

// walk calls visit for the images in order, until it returns false. rel is the
// path below the root, with slashes; err is why a folder cannot be read.
func (s *ImagesSource[T]) walk(visit func(path, rel string, err error) bool) error {
	if s.root == "" {
		return errors.New("a source of images needs a folder")
	}
	root, err := filepath.EvalSymlinks(s.root)
	if err != nil {
		return err
	}
	if info, err := os.Stat(root); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("open %s: it is a file, not a folder of images", s.root)
	}
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(root, path)
		if relErr != nil {
			return relErr
		}
		hidden := rel != "." && strings.HasPrefix(filepath.Base(path), ".")
		switch {
		case hidden && e.IsDir():
			return fs.SkipDir
		case err != nil || !e.IsDir() && IsImage(path):
			if !visit(filepath.Join(s.root, rel), filepath.ToSlash(rel), err) {
				return fs.SkipAll
			}
			if err != nil && e.IsDir() {
				return fs.SkipDir
			}
		}
		return nil
	})
}

// isImageFile reports whether an image's path leads to a file: a link to a
// folder, a pipe or a device is left out.
func isImageFile(info os.FileInfo) bool { return info.Mode().IsRegular() }

// Identity returns "sha256:" and a digest of the paths of all images below the
// root and of their content. What is remembered (see [FileOptions]) is one
// digest for the whole folder: when a file has changed, all are read again.
func (s *ImagesSource[T]) Identity(ctx context.Context) (string, error) {
	for range attempts {
		before, err := s.state(ctx)
		if err != nil {
			return "", err
		}
		hints := s.opts.hints(s.root)
		if digest, ok := hints.recallState(before.state); ok && before.known && !s.opts.reads(ctx) {
			return s.identityOf(digest), nil
		}
		begin := time.Now()
		digest, err := s.digest(ctx)
		if err != nil {
			return "", err
		}
		after, err := s.state(ctx)
		if err != nil {
			return "", err
		}
		if before == after {
			if before.known {
				hints.rememberState(before.state, begin, digest)
			}
			return s.identityOf(digest), nil
		}
	}
	return "", fmt.Errorf("hash %s: it changes while it is read", s.root)
}

// identityOf is the identity of a folder whose images have the digest.
func (s *ImagesSource[T]) identityOf(digest string) string {
	h := newIdentityHash("images")
	h.add(fmt.Sprintf("maxline=%d", s.opts.maxLine()))
	h.add(digest)
	return h.identity()
}

// folderState is all that the file system says of the images without reading
// them, with a hash of each file's state in place of inode and device. It is
// not known where the system does not say enough of one.
type folderState struct {
	state fileState
	known bool
}

func (s *ImagesSource[T]) state(ctx context.Context) (folderState, error) {
	f := folderState{known: true}
	h := sha256.New()
	err := s.each(ctx, func(path, rel string, info os.FileInfo) error {
		is, ok := stateOf(info)
		f.known = f.known && ok
		f.state.Size += info.Size()
		f.state.Mtime = max(f.state.Mtime, is.Mtime)
		f.state.Ctime = max(f.state.Ctime, is.Ctime)
		fmt.Fprintf(h, "%d:%s%+v%v", len(rel), rel, is, info.ModTime())
		return nil
	})
	sum := h.Sum(nil)
	f.state.Inode = binary.LittleEndian.Uint64(sum)
	f.state.Device = binary.LittleEndian.Uint64(sum[8:])
	return f, err
}

// each calls visit for every image that can be looked up; the others are bad
// rows, and come into the identity by their paths.
func (s *ImagesSource[T]) each(ctx context.Context, visit func(path, rel string, info os.FileInfo) error) error {
	var failed error
	err := s.walk(func(path, rel string, err error) bool {
		if ctx.Err() != nil {
			failed = context.Cause(ctx)
			return false
		}
		if err != nil {
			failed = err
			return false
		}
		info, err := os.Stat(path)
		if err != nil || !isImageFile(info) {
			return true
		}
		failed = visit(path, rel, info)
		return failed == nil
	})
	return errors.Join(failed, err)
}

// digest hashes paths and contents, in hexadecimal.
func (s *ImagesSource[T]) digest(ctx context.Context) (string, error) {
	h := identityHash{sha256.New()}
	err := s.each(ctx, func(path, rel string, _ os.FileInfo) error {
		digest, _, _, err := hashFile(ctx, path)
		h.add(rel)
		h.add(digest)
		return err
	})
	return hex.EncodeToString(h.h.Sum(nil)), err
}

// Rows reads the files.
func (s *ImagesSource[T]) Rows(ctx context.Context) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		columns, decode, err := columnDecoder[T](imageColumns, nil)
		if err != nil {
			yield(Row[T]{}, fmt.Errorf("read %s: %w", s.root, err))
			return
		}
		stopped := false
		err = s.walk(func(path, rel string, err error) bool {
			if ctx.Err() != nil {
				stopped = true
				yield(Row[T]{}, context.Cause(ctx))
				return false
			}
			row := Row[T]{Pos: Pos{path, 1}}
			var image []byte
			if err == nil {
				image, err = s.read(ctx, path)
			}
			if errors.Is(err, errNoImageFile) {
				return true
			}
			if err == nil {
				err = decode(imageValues(rel, image, columns), &row.Value)
			}
			if err != nil {
				stopped = !yield(Row[T]{}, &RowError{Pos: row.Pos, Err: err})
			} else {
				stopped = !yield(row, nil)
			}
			return !stopped
		})
		if err != nil && !stopped {
			yield(Row[T]{}, err)
		}
	}
}

// imageValues returns the values of some columns.
func imageValues(rel string, image []byte, columns []int) []any {
	all := []any{image, nil, rel, rel[strings.LastIndexByte(rel, '/')+1:]}
	if label, _, ok := strings.Cut(rel, "/"); ok {
		all[1] = label
	}
	values := make([]any, len(columns))
	for i, c := range columns {
		values[i] = all[c]
	}
	return values
}

var errNoImageFile = errors.New("not a file")

// read returns the bytes of a file.
func (s *ImagesSource[T]) read(ctx context.Context, path string) ([]byte, error) {
	// A pipe would wait for its other end.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !isImageFile(info):
		return nil, errNoImageFile
	case info.Size() > int64(s.opts.maxLine()):
		return nil, fmt.Errorf("%d bytes, larger than MaxLine, %d bytes", info.Size(), s.opts.maxLine())
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	image, err := io.ReadAll(io.LimitReader(&contextReader{ctx, file}, int64(s.opts.maxLine())+1))
	if err == nil && len(image) > s.opts.maxLine() {
		err = &tooLongError{s.opts.maxLine()}
	}
	return image, err
}
