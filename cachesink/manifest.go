package cachesink

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// FormatVersion is the highest version of the cache directory's format that
// this package reads and writes. It reads every earlier one, and writes the
// lowest that has what is stored; see [Manifest].
const FormatVersion = storageVersion

const (
	baseVersion = 1
	// storageVersion has dtypes other than float32, compression, and record
	// batches of other sizes.
	storageVersion = 2
)

const (
	manifestsDir = "manifests/"
	// manifestCopy is the newest manifest again, for people and scripts.
	manifestCopy = "MANIFEST.json"
	// maxManifest bounds what is read of a manifest; 100,000 shards are
	// about 30 MB.
	maxManifest = 1 << 30
	// maxDim bounds the values of an embedding.
	maxDim = 1 << 24
)

// Manifest is a commit point: all that the cache holds. A directory's state
// is its highest complete generation.
type Manifest struct {
	// Format is the lowest version that has all that is stored, so that an
	// earlier program goes on where it can, and refuses where it cannot.
	Format     int       `json:"format"`
	Generation int64     `json:"generation"` // 1, 2, ...; 0 for a cache that holds nothing yet
	Encoders   []Encoder `json:"encoders"`   // sorted by folder
	Splits     []Split   `json:"splits"`     // sorted by name, then in order of commit
	Digest     string    `json:"digest"`     // SHA-256 of the document with this field empty
}

// Encoder is the stored embeddings of one encoder.
type Encoder struct {
	Name        string            `json:"name"`
	Fingerprint string            `json:"fingerprint"` // of the encoder: 64 hexadecimal digits
	Folder      string            `json:"folder"`      // encoders/<name>-<fp12>
	Dim         int               `json:"dim"`
	DType       DType             `json:"dtype"` // of the stored values
	Spec        map[string]string `json:"spec"`  // the declared fields behind the fingerprint
	Shards      []Shard           `json:"shards"`
}

// Rows returns the number of objects in all shards.
func (e *Encoder) Rows() (n int64) {
	for _, s := range e.Shards {
		n += s.Rows
	}
	return n
}

// Shard is one file of embeddings.
type Shard struct {
	ID string `json:"id"` // SHA-256; the file's name ends in its first 8 digits
	File
	// Storage is how the shard is stored, as its id has it; empty for plain
	// float32.
	Storage string `json:"storage,omitempty"`
}

// Compression returns how the shard is compressed.
func (s Shard) Compression() Compression {
	l, err := s.layout()
	if err != nil {
		return "" // no parsed manifest holds it
	}
	return l.codec
}

func (s Shard) layout() (layout, error) {
	if s.Storage == "" {
		return plain, nil
	}
	return parseLayout(s.Storage)
}

// File is a file with what proves its content.
type File struct {
	Name  string `json:"file"`
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"`
	Sum   string `json:"sum"` // SHA-256 of the file's checksums, <file>.sum
}

// Split is the rows of one split of a dataset, under certain encoders.
type Split struct {
	Name        string         `json:"name"`
	Fingerprint string         `json:"fingerprint"` // of its rows: labels, keys, ids, kept columns
	Kind        Kind           `json:"kind"`
	Folder      string         `json:"folder"` // splits/<name>-<fp12>
	Rows        int64          `json:"rows"`
	Encoders    []SplitEncoder `json:"encoders"` // sorted by name
	Files       []File         `json:"files"`
	Inputs      []File         `json:"inputs,omitempty"` // only where an encoder is not cached
}

// Bytes returns the size of the split's own files.
func (s *Split) Bytes() (n int64) {
	for _, f := range slices.Concat(s.Files, s.Inputs) {
		n += f.Bytes
	}
	return n
}

// SplitEncoder names an encoder of a split.
type SplitEncoder struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
	Folder      string `json:"folder,omitempty"` // of its embeddings; empty where it is not cached
	Input       string `json:"input"`            // what it reads of an object, as declared
	Objects     int64  `json:"objects"`          // distinct objects in the split; 0 where it is not cached
}

// Kind says what the samples of a split are.
type Kind string

// The kinds of samples.
const (
	Group Kind = "group" // an object with a label
	Pair  Kind = "pair"  // two objects with a score and a subgroup
)

// Sides returns the sides of a sample: "" alone, or "a" and "b".
func (k Kind) Sides() []string {
	if k == Pair {
		return []string{"a", "b"}
	}
	return []string{""}
}

// Encoder returns the encoder of a folder, nil if there is none.
func (m *Manifest) Encoder(folder string) *Encoder {
	for i := range m.Encoders {
		if m.Encoders[i].Folder == folder {
			return &m.Encoders[i]
		}
	}
	return nil
}

// Split returns the split of that name and fingerprint, nil if there is
// none.
func (m *Manifest) Split(name, fingerprint string) *Split {
	for i := range m.Splits {
		if s := &m.Splits[i]; s.Name == name && s.Fingerprint == fingerprint {
			return s
		}
	}
	return nil
}

// Bytes returns the size of all files that the manifest names, their
// checksums left out.
func (m *Manifest) Bytes() (n int64) {
	for f := range m.files() {
		n += f.Bytes
	}
	return n
}

// files yields every file that counts.
func (m *Manifest) files() func(yield func(File) bool) {
	return func(yield func(File) bool) {
		for _, s := range m.Splits {
			for _, f := range slices.Concat(s.Files, s.Inputs) {
				if !yield(f) {
					return
				}
			}
		}
		for _, e := range m.Encoders {
			for _, sh := range e.Shards {
				if !yield(sh.File) {
					return
				}
			}
		}
	}
}

// Files returns the names of all files that count, in the manifest's order:
// those of the splits, then those of the encoders.
func (m *Manifest) Files() []string {
	var names []string
	for f := range m.files() {
		names = append(names, f.Name)
	}
	return names
}

// version is the lowest format version that has all that m names.
func (m *Manifest) version() int {
	for _, e := range m.Encoders {
		if e.DType != Float32 || slices.ContainsFunc(e.Shards, func(s Shard) bool { return s.Storage != "" }) {
			return storageVersion
		}
	}
	return baseVersion
}

func (m *Manifest) sort() {
	slices.SortFunc(m.Encoders, func(a, b Encoder) int { return cmp.Compare(a.Folder, b.Folder) })
	slices.SortStableFunc(m.Splits, func(a, b Split) int { return cmp.Compare(a.Name, b.Name) })
}

// encode sets the digest and returns the document.
func (m *Manifest) encode() ([]byte, error) {
	m.Digest = ""
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, err
	}
	d := sha256.Sum256(b)
	m.Digest = hex.EncodeToString(d[:])
	b, err = json.MarshalIndent(m, "", " ")
	return append(b, '\n'), err
}

// digestField is the end of every manifest, of whatever format version, but
// for the digest itself: SHA-256 of the bytes before the digest and two more,
// `"` and "\n}". It is checked first, so that damage is never taken for
// another version.
var (
	digestField = []byte(`"digest": "`)
	digestEnd   = []byte("\"\n}\n")
)

func digestHolds(b []byte) bool {
	n := len(b) - len(digestEnd) - 2*sha256.Size
	if n < len(digestField) || !bytes.HasSuffix(b, digestEnd) || !bytes.HasSuffix(b[:n], digestField) {
		return false
	}
	h := sha256.New()
	h.Write(b[:n])
	h.Write(digestEnd[:len(digestEnd)-1])
	return hex.EncodeToString(h.Sum(nil)) == string(b[n:n+2*sha256.Size])
}

// ParseManifest reads a manifest strictly: the digest right, every field
// known, every name inside the directory. One of a later format version is
// ErrForeign, anything else ErrCorrupt.
func ParseManifest(b []byte) (*Manifest, error) {
	if !digestHolds(b) {
		return nil, fmt.Errorf("%w: the manifest's digest does not hold", ErrCorrupt)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if head.Format > FormatVersion {
		return nil, fmt.Errorf("%w: format version %d, this program reads up to %d", ErrForeign, head.Format, FormatVersion)
	}
	var m Manifest
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	// Another spelling of the same values would be another program's.
	if again, err := m.encode(); err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: the manifest is not in its one spelling", ErrCorrupt)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return &m, nil
}

// maxFile bounds sizes and numbers of rows, so that sums of them stay in
// range.
const maxFile = 1 << 48

func (f File) check() error {
	digest, err := hex.DecodeString(f.Sum)
	if !fs.ValidPath(f.Name) || f.Rows < 0 || f.Rows > maxFile || f.Bytes < 0 || f.Bytes > maxFile || err != nil || len(digest) != sha256.Size {
		return fmt.Errorf("bad file entry %q", f.Name)
	}
	return nil
}

// check holds a manifest whose digest is right to the rules that the rest of
// the package relies on.
func (m *Manifest) check() error {
	if m.Format < m.version() {
		return fmt.Errorf("format version %d, for what version %d has", m.Format, m.version())
	}
	for f := range m.files() {
		if err := f.check(); err != nil {
			return err
		}
	}
	folders := map[string]bool{}
	for _, e := range m.Encoders {
		if err := e.check(); err != nil {
			return fmt.Errorf("encoder %q: %w", e.Name, err)
		}
		if folders[e.Folder] {
			return fmt.Errorf("two encoders in %q", e.Folder)
		}
		folders[e.Folder] = true
	}
	type key struct{ name, fingerprint string }
	splits := map[key]bool{}
	for _, s := range m.Splits {
		k := key{s.Name, s.Fingerprint}
		if splits[k] {
			return fmt.Errorf("two splits %q of the fingerprint %.12s", s.Name, s.Fingerprint)
		}
		splits[k] = true
		if err := s.check(folders); err != nil {
			return fmt.Errorf("split %q: %w", s.Name, err)
		}
	}
	return nil
}

func (e *Encoder) check() error {
	if _, err := ParseDType(string(e.DType)); err != nil || !nameRule.MatchString(e.Name) || e.Dim <= 0 || e.Dim > maxDim || e.DType == "" {
		return fmt.Errorf("dimension %d, dtype %q", e.Dim, e.DType)
	}
	ids := map[string]bool{}
	for _, s := range e.Shards {
		if len(s.ID) != 2*sha256.Size || ids[s.ID] {
			return fmt.Errorf("shard id %q, or it comes twice", s.ID)
		}
		if l, err := s.layout(); err != nil || l.dtype != e.DType {
			return fmt.Errorf("shard %.12s: storage %q", s.ID, s.Storage)
		}
		ids[s.ID] = true
	}
	return nil
}

func (s *Split) check(folders map[string]bool) error {
	if !nameRule.MatchString(s.Name) || s.Kind != Group && s.Kind != Pair {
		return fmt.Errorf("kind %q", s.Kind)
	}
	stored := true
	for _, e := range s.Encoders {
		if e.Folder == "" {
			stored = false
		} else if !folders[e.Folder] {
			return fmt.Errorf("no encoder folder %q", e.Folder)
		}
	}
	if rowsOf(s.Files) != s.Rows {
		return fmt.Errorf("%d rows in its files, not %d", rowsOf(s.Files), s.Rows)
	}
	if !stored && rowsOf(s.Inputs) != s.Rows {
		return fmt.Errorf("%d rows of inputs, not %d", rowsOf(s.Inputs), s.Rows)
	}
	return nil
}

func rowsOf(files []File) (n int64) {
	for _, f := range files {
		n += f.Rows
	}
	return n
}

func manifestName(generation int64) string {
	return fmt.Sprintf("%s%010d.json", manifestsDir, generation)
}

// generationOf returns the number of a manifest's name, 0 for others', and
// whether it is that of a claim.
func generationOf(name string) (n int64, claim bool) {
	name, claim = strings.CutSuffix(name, store.ClaimSuffix)
	n, err := strconv.ParseInt(strings.TrimSuffix(path.Base(name), ".json"), 10, 64)
	if err != nil || n < 1 || manifestName(n) != name {
		return 0, false
	}
	return n, claim
}

// readManifest returns the highest generation, and the highest number that
// is taken: a higher one where a commit has begun and its file has not come.
// A manifest gets its name when it is complete, so one that cannot be read
// is damage, never a commit cut short: an older generation is not served in
// its place. An empty store has generation 0.
func readManifest(ctx context.Context, st store.Store) (m *Manifest, top int64, err error) {
	empty := false
	for range manifestTries {
		m, top, err = newestManifest(ctx, st)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// A collection removed it, and there is a newer one.
		case err == nil && top == 0 && !empty:
			// A list that is made while a collection puts one generation in the
			// place of another may have neither.
			empty = true
		default:
			return m, top, err
		}
	}
	return m, top, err
}

// manifestTries bounds how often the newest manifest may be removed between
// being listed and being read.
const manifestTries = 5

func newestManifest(ctx context.Context, st store.Store) (*Manifest, int64, error) {
	list, err := st.List(ctx, manifestsDir)
	if err != nil {
		return nil, 0, fmt.Errorf("list the manifests of %s: %w", st, err)
	}
	var gen, top int64
	for _, info := range list {
		n, claim := generationOf(info.Name)
		if n == 0 {
			continue // not ours
		}
		top = max(top, n)
		if !claim {
			gen = max(gen, n)
		}
	}
	if gen == 0 {
		return &Manifest{Format: baseVersion, Encoders: []Encoder{}, Splits: []Split{}}, top, nil
	}
	name := manifestName(gen)
	var m *Manifest
	_, err = store.ReadFunc(ctx, st, name, maxManifest, func(b []byte) (err error) {
		m, err = ParseManifest(b)
		if err == nil && m.Generation != gen {
			err = fmt.Errorf("%w: it says generation %d", ErrCorrupt, m.Generation)
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read %s of %s: %w", name, st, err)
	}
	return m, top, nil
}

// commit writes m as the given generation, or fails with fs.ErrExist.
func (m *Manifest) commit(ctx context.Context, st store.Store, generation int64) error {
	m.Generation, m.Format = generation, m.version()
	m.sort()
	b, err := m.encode()
	if err != nil {
		return err
	}
	if err := store.Put(ctx, st, manifestName(generation), b, false); err != nil {
		return fmt.Errorf("commit generation %d to %s: %w", generation, st, err)
	}
	// A name may be free because collections have removed it again, in favour
	// of later ones: then nobody sees the commit, unless they have it.
	switch newest, _, err := readManifest(ctx, st); {
	case err != nil:
		return fmt.Errorf("confirm generation %d of %s: %w", generation, st, err)
	case newest.Generation > generation:
		return fmt.Errorf("commit generation %d to %s: %w: there is generation %d", generation, st, fs.ErrExist, newest.Generation)
	}
	// The copy is a courtesy: the commit has happened, whatever becomes of it.
	_ = store.Put(ctx, st, manifestCopy, b, true)
	return nil
}
