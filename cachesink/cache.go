package cachesink

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// Storage is where a cache lies: see [Dir], [Memory] and
// [OpenStorage].
type Storage = store.Store

// Dir returns the storage in a folder of the filesystem. The folder is made
// when something is first written to it.
func Dir(path string) Storage { return store.NewDir(path, nil) }

// Memory returns a new storage in host memory, which holds what one process
// fills until nothing refers to it.
func Memory() Storage { return store.NewMem() }

// Cache is an opened cache directory, at one generation of its manifest.
// Its methods are safe for concurrent use, except for [Fill.Commit], which
// moves it to another generation.
type Cache struct {
	st       store.Store
	mem      memory.Allocator
	manifest *Manifest
}

// Open opens a cache at its newest generation. It reads the manifest only.
// A place that holds nothing is an empty cache; a folder that holds other
// things than a cache is ErrForeign. A nil mem is memory.DefaultAllocator.
func Open(ctx context.Context, st Storage, mem memory.Allocator) (*Cache, error) {
	if mem == nil {
		mem = memory.DefaultAllocator
	}
	m, top, err := readManifest(ctx, st)
	if err != nil {
		return nil, err
	}
	if top == 0 {
		if err := ours(ctx, st); err != nil {
			return nil, err
		}
	}
	return &Cache{st: st, mem: mem, manifest: m}, nil
}

// ours refuses a place without a manifest that holds other things than a
// fill which was never committed leaves.
func ours(ctx context.Context, st Storage) error {
	names, err := st.Top(ctx)
	if err != nil {
		return fmt.Errorf("list %s: %w", st, err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") || name == "lost+found" {
			continue
		}
		if !slices.Contains([]string{"tmp", "encoders", "splits", "inputs", "sources", "leases", "manifests", manifestCopy}, name) {
			return fmt.Errorf("%w: %s holds %q and no manifest", ErrForeign, st, name)
		}
	}
	return nil
}

// Manifest returns the manifest that the cache was opened at. It must not be
// changed.
func (c *Cache) Manifest() *Manifest { return c.manifest }

// Storage returns where the cache lies.
func (c *Cache) Storage() Storage { return c.st }

// Free returns the bytes that may still be written, -1 where unknown.
func (c *Cache) Free(ctx context.Context) int64 { return c.st.Free(ctx) }

// SourceNote says which rows a source gives: what [Cache.Remember] keeps.
type SourceNote struct {
	Split       string `json:"split"`
	Fingerprint string `json:"fingerprint"` // of the split's rows
	// Facts are the declared, printable fields whose hash is the note's key:
	// the source's identity, how samples are made of its rows, the encoders'
	// inputs.
	Facts map[string]string `json:"facts"`
	// LeftOut is the number of bad rows that were left out.
	LeftOut int64 `json:"left_out,omitempty"`
}

const (
	sourcesDir = "sources/"
	maxNote    = 1 << 20
)

// Remember notes that a source, under a key that hashes all that decides its
// rows, gave the rows of a certain split, so that a later fill need not read
// it. Notes are hints beside the manifest, not part of it: they count only
// while the manifest has their split.
func (c *Cache) Remember(ctx context.Context, key string, n SourceNote) error {
	b, err := json.MarshalIndent(n, "", " ")
	if err != nil {
		return err
	}
	if err := store.Put(ctx, c.st, sourcesDir+key+".json", append(b, '\n'), true); err != nil {
		return fmt.Errorf("note a source in %s: %w", c.st, err)
	}
	return nil
}

// Recall returns the split that the source of that key gave, nil if the
// cache does not hold it.
func (c *Cache) Recall(ctx context.Context, key string) (*Split, error) {
	n, err := c.Note(ctx, key)
	if n == nil || err != nil {
		return nil, err
	}
	return c.manifest.Split(n.Split, n.Fingerprint), nil
}

// Note returns what was noted under a key, nil if there is nothing. Its
// split need not be in the manifest.
func (c *Cache) Note(ctx context.Context, key string) (*SourceNote, error) {
	b, err := store.ReadAll(ctx, c.st, sourcesDir+key+".json", maxNote)
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	var n SourceNote
	if err != nil || json.Unmarshal(b, &n) != nil {
		return nil, nil // no hint, or a damaged one: the source is read instead
	}
	return &n, nil
}

// Notes returns all source notes, for showing what has changed.
func (c *Cache) Notes(ctx context.Context) ([]SourceNote, error) {
	list, err := c.st.List(ctx, sourcesDir)
	if err != nil {
		return nil, fmt.Errorf("list the source notes of %s: %w", c.st, err)
	}
	var out []SourceNote
	for _, info := range list {
		var n SourceNote
		b, err := store.ReadAll(ctx, c.st, info.Name, maxNote)
		if err == nil && json.Unmarshal(b, &n) == nil {
			out = append(out, n)
		}
	}
	return out, nil
}
