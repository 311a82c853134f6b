package cachesink

import (
	"errors"
	"fmt"
)

var (
	// ErrCorrupt is returned when bytes of the cache are not those that were
	// written: a wrong checksum, size or structure. The error names the file.
	ErrCorrupt = errors.New("cache is damaged")
	// ErrForeign is returned for a folder that holds something else than a
	// cache of this format, or one written by a later version.
	ErrForeign = errors.New("not a cache of this format")
	// ErrMissing is returned when the cache has no such split or encoder.
	ErrMissing = errors.New("not in the cache")
	// ErrKeyConflict is returned when one key stands for two contents.
	ErrKeyConflict = errors.New("one key has two contents")
	// ErrSchema is returned for a record batch without the columns that the
	// stage reads, with other types, or with nulls where there can be none.
	ErrSchema = errors.New("record batch has the wrong schema")
	// ErrEmbeddings is returned when the embeddings written are not those of
	// the objects that were emitted: in another order, too many, too few, or
	// not finite.
	ErrEmbeddings = errors.New("embeddings do not fit their objects")
	// ErrNoSpace is returned by a fill for which the storage has no room, before
	// it encodes what does not fit. It is a [*SpaceError].
	ErrNoSpace = errors.New("not enough space")
	// ErrMoved is returned when what a fill or a reader had begun with was
	// moved or removed by another process (`gc`) before it came to its end.
	// What is committed is whole; beginning again helps.
	ErrMoved = errors.New("the cache was changed meanwhile")
	// ErrScheme is returned for a place with a scheme for which this program
	// has no storage.
	ErrScheme = errors.New("no storage in this program for the scheme")
	// ErrBusy is returned when another process has begun a commit and not
	// ended it in time.
	ErrBusy = errors.New("another commit is under way")
)

// gone says that a file which a manifest names is not there: damage, or another
// process has removed it; see [Cache.again].
func gone(name string, err error) error {
	return fmt.Errorf("%w: %s: the file is gone: %w", ErrCorrupt, name, err)
}

func corrupt(name, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrCorrupt, name, fmt.Sprintf(format, args...))
}
