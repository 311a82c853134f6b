package cachesink

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// openers are the kinds of storage beside folders, by scheme.
var openers struct {
	sync.RWMutex
	byScheme map[string]func(ctx context.Context, url string) (Storage, error)
}

// programs that have the storage of well-known schemes, for messages.
var programs = map[string]string{
	"s3": "the program pipeline-s3 has it; in Go, register Open of package cachesink/s3",
}

// schemeRule is how a place with a scheme starts. One letter is a drive.
var schemeRule = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9+.-]+)://`)

// RegisterStorage makes [OpenStorage] take the places scheme://... with open,
// which is called with the whole place. The scheme is in small letters. Call
// it at the start of a program; another registration of a scheme panics.
func RegisterStorage(scheme string, open func(ctx context.Context, url string) (Storage, error)) {
	if scheme == "" || Scheme(scheme+"://") != scheme || open == nil {
		panic(fmt.Sprintf("cachesink: storage registered for the scheme %q", scheme))
	}
	openers.Lock()
	defer openers.Unlock()
	if _, ok := openers.byScheme[scheme]; ok {
		panic(fmt.Sprintf("cachesink: storage for %s:// is registered twice", scheme))
	}
	if openers.byScheme == nil {
		openers.byScheme = map[string]func(context.Context, string) (Storage, error){}
	}
	openers.byScheme[scheme] = open
}

// Scheme returns the scheme of a place, in small letters: "s3" of
// "s3://bucket/prefix". It is empty for a folder.
func Scheme(place string) string {
	m := schemeRule.FindStringSubmatch(place)
	if m == nil {
		return ""
	}
	return strings.ToLower(m[1])
}

// CheckPlace returns ErrScheme if this program has no storage for a place.
func CheckPlace(place string) error {
	_, err := opener(place)
	return err
}

func opener(place string) (func(ctx context.Context, url string) (Storage, error), error) {
	scheme := Scheme(place)
	if scheme == "" {
		return func(_ context.Context, path string) (Storage, error) { return Dir(path), nil }, nil
	}
	openers.RLock()
	defer openers.RUnlock()
	if open := openers.byScheme[scheme]; open != nil {
		return open, nil
	}
	has := "it has folders only"
	if len(openers.byScheme) > 0 {
		has = "it has folders and " + strings.Join(slices.Sorted(maps.Keys(openers.byScheme)), ":// and ") + "://"
	}
	if program, ok := programs[scheme]; ok {
		has = program
	}
	return nil, fmt.Errorf("%w %s:// of %s: %s", ErrScheme, scheme, place, has)
}

// OpenStorage returns the storage at a place: a folder's path as [Dir], and
// scheme://... by what [RegisterStorage] was given for the scheme. Without
// that the error is ErrScheme.
func OpenStorage(ctx context.Context, place string) (Storage, error) {
	open, err := opener(place)
	if err != nil {
		return nil, err
	}
	st, err := open(ctx, place)
	if err != nil {
		return nil, fmt.Errorf("open the storage %s: %w", place, err)
	}
	return st, nil
}
