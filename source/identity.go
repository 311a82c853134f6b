package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"time"
)

// identityTag versions the computation of identities.
const identityTag = "permafrost.source.v1"

// identityHash hashes parts so that no two lists of parts are hashed alike.
type identityHash struct{ h hash.Hash }

func newIdentityHash(format string) identityHash {
	h := identityHash{sha256.New()}
	h.add(identityTag)
	h.add(format)
	return h
}

func (h identityHash) add(part string) {
	fmt.Fprintf(h.h, "%d:", len(part))
	_, _ = io.WriteString(h.h, part) // a hash returns no error
}

func (h identityHash) identity() string { return "sha256:" + hex.EncodeToString(h.h.Sum(nil)) }

// identity hashes the format, its options and every file's digest, in order;
// of names it takes in only what perFile makes of them.
func (f fileSet) identity(ctx context.Context, format, options string, perFile func(path string) string) (string, error) {
	paths, err := f.paths()
	if err != nil {
		return "", err
	}
	h := newIdentityHash(format)
	h.add(options)
	for _, path := range paths {
		digest, err := f.opts.fileDigest(ctx, path)
		if err != nil || digest == "" {
			return "", err
		}
		if perFile != nil {
			h.add(perFile(path))
		}
		h.add(digest)
	}
	return h.identity(), nil
}

// attempts is how often a file is read that changes while it is read.
const attempts = 3

// fileDigest returns the SHA-256 of a file's bytes in hexadecimal, from a hint
// if there is one that holds; empty for what is no regular file.
func (o FileOptions) fileDigest(ctx context.Context, path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	switch {
	case info.IsDir():
		return "", fmt.Errorf("open %s: it is a directory, not a file", path)
	case !info.Mode().IsRegular():
		return "", nil
	}
	hints := o.hints(path)
	if digest, ok := hints.recall(info); ok && !o.reads(ctx) {
		return digest, nil
	}
	for range attempts {
		begin := time.Now()
		digest, before, after, err := hashFile(ctx, path)
		if err != nil {
			return "", err
		}
		if before.Size() == after.Size() && before.ModTime().Equal(after.ModTime()) {
			hints.remember(before, after, begin, digest)
			return digest, nil
		}
	}
	return "", fmt.Errorf("hash %s: it changes while it is read", path)
}

// hashFile also returns what the file's folder says of it before and after.
func hashFile(ctx context.Context, path string) (digest string, before, after os.FileInfo, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", nil, nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	if before, err = file.Stat(); err != nil {
		return "", nil, nil, err
	}
	h := sha256.New()
	if _, err = io.CopyBuffer(h, &contextReader{ctx, file}, make([]byte, 256<<10)); err != nil {
		return "", nil, nil, fmt.Errorf("hash %s: %w", path, err)
	}
	if after, err = file.Stat(); err != nil {
		return "", nil, nil, err
	}
	return hex.EncodeToString(h.Sum(nil)), before, after, nil
}
