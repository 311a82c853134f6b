package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// RepairManifest makes a place open again whose newest manifest is damaged,
// and says what it did, "" where nothing was to do. MANIFEST.json takes its
// place if it is the same generation. Else the newest older generation that is
// whole is committed as the next one: what was committed since is lost, though
// its shards are not, which the next fill takes up.
func RepairManifest(ctx context.Context, st Storage) (string, error) {
	_, _, damage := readManifest(ctx, st)
	if !errors.Is(damage, ErrCorrupt) {
		return "", damage
	}
	list, err := st.List(ctx, manifestsDir)
	if err != nil {
		return "", fmt.Errorf("list the manifests of %s: %w", st, err)
	}
	var numbers []int64
	for _, f := range list {
		if n, claim := generationOf(f.Name); n > 0 && !claim {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	newest := numbers[len(numbers)-1]
	if m, b := parsed(ctx, st, manifestCopy); m != nil && m.Generation == newest {
		if err := store.Put(ctx, st, manifestName(newest), b, true); err != nil {
			return "", fmt.Errorf("restore %s of %s: %w", manifestName(newest), st, err)
		}
		return fmt.Sprintf("%s was damaged, and is restored from %s", manifestName(newest), manifestCopy), nil
	}
	for _, n := range slices.Backward(numbers[:len(numbers)-1]) {
		m, _ := parsed(ctx, st, manifestName(n))
		if m == nil || m.Generation != n {
			continue
		}
		if err := m.commit(ctx, st, newest+1); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s is damaged: what was committed after generation %d is not in the cache any more, and generation %d is again as %d was",
			manifestName(newest), n, newest+1, n), nil
	}
	return "", fmt.Errorf("no manifest of %s is whole: %w", st, damage)
}

// parsed reads a manifest, nil if it is not whole.
func parsed(ctx context.Context, st Storage, name string) (*Manifest, []byte) {
	b, err := store.ReadAll(ctx, st, name, maxManifest)
	if err != nil {
		return nil, nil
	}
	m, err := ParseManifest(b)
	if err != nil {
		return nil, nil
	}
	return m, b
}

// RepairSums writes the checksums of a damaged file anew, if they alone are
// damaged: if those of its bytes are the manifest's. It reports whether the
// file is as it was written then.
func (c *Cache) RepairSums(ctx context.Context, name string) (ok bool, err error) {
	i := slices.IndexFunc(slices.Collect(c.manifest.files()), func(f File) bool { return f.Name == name })
	if i < 0 {
		return false, fmt.Errorf("%w: %s", ErrMissing, name)
	}
	f := slices.Collect(c.manifest.files())[i]
	r, err := c.st.Open(ctx, name)
	if err != nil {
		return false, nil // what cannot be read is not whole
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if r.Size() != f.Bytes {
		return false, nil
	}
	sums := sumWriter{w: io.Discard}
	if _, err := io.CopyBuffer(&sums, io.NewSectionReader(r, 0, r.Size()), make([]byte, 16*sumBlock)); err != nil {
		return false, nil
	}
	if b := sums.finish(); sumDigest(b) == f.Sum {
		if err := store.Put(ctx, c.st, name+sumSuffix, b, true); err != nil {
			return false, fmt.Errorf("restore %s of %s: %w", name+sumSuffix, c.st, err)
		}
		return true, nil
	}
	return false, nil
}

// Drop commits a generation without damaged files: without the splits of
// theirs, without damaged shards, and without the splits that count positions
// through the encoders of these. Undamaged shards stay, so that a fill of the
// same rows encodes what is lost alone. It returns the splits that went. The
// cache then stands at the new generation.
func (c *Cache) Drop(ctx context.Context, damaged []string) ([]DroppedSplit, error) {
	bad := map[string]bool{}
	for _, name := range damaged {
		bad[name] = true
	}
	for range commitTries {
		cur, err := settled(ctx, c.st)
		if err != nil {
			return nil, err
		}
		next := &Manifest{Encoders: []Encoder{}, Splits: []Split{}}
		hurt := map[string]bool{} // folders
		for _, e := range cur.Encoders {
			kept := slices.DeleteFunc(slices.Clone(e.Shards), func(s Shard) bool { return bad[s.Name] })
			hurt[e.Folder] = len(kept) < len(e.Shards)
			e.Shards = kept
			next.Encoders = append(next.Encoders, e)
		}
		dropped := []DroppedSplit{}
		for _, s := range cur.Splits {
			if slices.ContainsFunc(slices.Concat(s.Files, s.Inputs), func(f File) bool { return bad[f.Name] }) ||
				slices.ContainsFunc(s.Encoders, func(e SplitEncoder) bool { return hurt[e.Folder] }) {
				dropped = append(dropped, DroppedSplit{s.Name, s.Fingerprint, s.Folder, s.Rows})
				continue
			}
			next.Splits = append(next.Splits, s)
		}
		if err := quiet(ctx, c.st); err != nil {
			return nil, err
		}
		if err := next.commit(ctx, c.st, cur.Generation+1); !errors.Is(err, fs.ErrExist) {
			if err == nil {
				c.manifest = next
			}
			return dropped, err
		}
	}
	return nil, fmt.Errorf("%w: to %s, %d times", ErrBusy, c.st, commitTries)
}

// SplitOf returns the split that a file belongs to, nil for a shard.
func (m *Manifest) SplitOf(file string) *Split {
	for i := range m.Splits {
		if s := &m.Splits[i]; strings.HasPrefix(file, s.Folder+"/") || slices.ContainsFunc(s.Inputs, func(f File) bool { return f.Name == file }) {
			return s
		}
	}
	return nil
}
