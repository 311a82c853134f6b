package models

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// tmpDir holds what has no name yet. No model's folder can be called so.
const tmpDir = ".tmp"

// Store is a folder of models. It is safe for concurrent use, by several
// processes too.
type Store struct {
	dir  string
	fsys store.FS
	// exchange swaps two folders in one step, or is errors.ErrUnsupported.
	exchange func(a, b string) error
}

// DefaultDir is the folder that $PERMAFROST_MODELS names, or else
// permafrost/models in the user's cache folder.
func DefaultDir() (string, error) {
	if dir := os.Getenv("PERMAFROST_MODELS"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the folder of models, which PERMAFROST_MODELS can name: %w", err)
	}
	return filepath.Join(cache, "permafrost", "models"), nil
}

// New returns the store in the folder dir, "" for [DefaultDir]. The folder is
// made when the first model comes. A nil fsys is the operating system's.
func New(dir string, fsys store.FS) (*Store, error) {
	if dir == "" {
		var err error
		if dir, err = DefaultDir(); err != nil {
			return nil, err
		}
	}
	if fsys == nil {
		fsys = store.OS{}
	}
	return &Store{dir: dir, fsys: fsys, exchange: store.Exchange}, nil
}

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

// Path is the folder of the model of a full name.
func (s *Store) Path(name string) string { return filepath.Join(s.dir, folderOf(name)) }

func (s *Store) tmp(name string) string { return filepath.Join(s.dir, tmpDir, name) }

// Model is a stored model.
type Model struct {
	Manifest
	// Dir is its folder.
	Dir string
	// Card is what its files say of it.
	Card Card
}

// Entry is a folder of the store: a model, or one whose manifest cannot be
// read.
type Entry struct {
	Name string // as the folder says, if the manifest cannot be read
	Model
	Err error // ErrCorrupt
}

// List returns the models, sorted by name.
func (s *Store) List(ctx context.Context) ([]Entry, error) {
	folders, err := s.fsys.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list models: %w", err)
	}
	var out []Entry
	for _, f := range folders {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		name := strings.Replace(f.Name(), "--", "/", 1)
		if !f.IsDir() || checkName(name) != nil {
			continue
		}
		m, err := s.load(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
		e := Entry{Name: name, Err: err}
		if err == nil {
			e.Name, e.Model = m.Name, *m
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// load reads the model of a full name. No manifest is fs.ErrNotExist, one
// that cannot be used ErrCorrupt.
func (s *Store) load(name string) (*Model, error) {
	m, err := readManifest(s.fsys, filepath.Join(s.Path(name), ManifestName))
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	if folderOf(m.Name) != folderOf(name) && !strings.EqualFold(folderOf(m.Name), folderOf(name)) {
		return nil, fmt.Errorf("model %s: %w: its manifest is that of %s", name, ErrCorrupt, m.Name)
	}
	return &Model{Manifest: *m, Dir: s.Path(name), Card: readCard(os.DirFS(s.Path(name)))}, nil
}

func readManifest(fsys store.FS, path string) (*Manifest, error) {
	data, err := readFile(fsys, path, manifestLimit)
	if errors.Is(err, store.ErrTooLarge) {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrCorrupt, ManifestName, err)
	}
	return m, nil
}

// Find returns the full name of the model that a name means: its own, or the
// part after the slash where only one model has it. A model whose manifest is
// damaged is found by its full name.
func (s *Store) Find(ctx context.Context, name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	entries, err := s.List(ctx)
	if err != nil {
		return "", err
	}
	var short []string
	for _, e := range entries {
		if e.Name == name {
			return name, nil
		}
		if _, base, ok := strings.Cut(e.Name, "/"); ok && base == name {
			short = append(short, e.Name)
		}
	}
	switch len(short) {
	case 0:
		return "", fmt.Errorf("%w: %q in %s", ErrNotFound, name, s.dir)
	case 1:
		return short[0], nil
	}
	return "", fmt.Errorf("%w: %q is short for %s", ErrAmbiguous, name, strings.Join(short, " and "))
}

// FindPartial is Find, and finds downloads that were cut short as well.
func (s *Store) FindPartial(ctx context.Context, name string) (string, error) {
	full, err := s.Find(ctx, name)
	if errors.Is(err, ErrNotFound) {
		if partial, err := s.partials(name); err != nil || len(partial) > 0 {
			return name, err
		}
	}
	return full, err
}

// Open returns the model that a name means, as Find does.
func (s *Store) Open(ctx context.Context, name string) (*Model, error) {
	full, err := s.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.load(full)
}

// Remove deletes the model of a full name and what of it is downloaded in
// part, and returns the size. Files in its folder that are not the model's
// are an error, unless force deletes them too.
func (s *Store) Remove(ctx context.Context, name string, force bool) (bytes int64, err error) {
	if err := checkName(name); err != nil {
		return 0, err
	}
	if _, err := s.fsys.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: %q in %s", ErrNotFound, name, s.dir)
	}
	unlock, err := s.lock(name)
	if err != nil {
		return 0, err
	}
	defer unlock()
	if err := s.sweep(name); err != nil {
		return 0, err
	}
	partial, err := s.partials(name)
	if err != nil {
		return 0, err
	}
	m, err := s.load(name)
	switch {
	case err == nil:
		if err := noExtra(m, force); err != nil {
			return 0, err
		}
		bytes = m.Bytes()
	case errors.Is(err, ErrCorrupt) && force:
	case errors.Is(err, ErrCorrupt):
		return 0, fmt.Errorf("%w; --force removes all that is in its folder", err)
	case !errors.Is(err, fs.ErrNotExist):
		return 0, err
	case len(partial) == 0:
		return 0, fmt.Errorf("%w: %q in %s", ErrNotFound, name, s.dir)
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	for _, p := range partial {
		bytes += p.Bytes
		if err := s.removeTree(p.dir); err != nil {
			return 0, err
		}
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return bytes, nil // there was no more than a part
	}
	trash, err := s.tempDir(tmpOld, name)
	if err != nil {
		return 0, err
	}
	// Within the temporary folder, so that what a crash leaves is swept.
	err = s.fsys.Rename(s.Path(name), filepath.Join(trash, "model"))
	if err == nil {
		err = s.fsys.SyncDir(s.dir)
	}
	return bytes, errors.Join(err, s.removeTree(trash))
}

// noExtra refuses to delete what is not the model's without force.
func noExtra(m *Model, force bool) error {
	extra, err := extraFiles(&m.Manifest, m.Dir)
	if err == nil && len(extra) > 0 && !force {
		err = fmt.Errorf("remove %s: its folder holds what is not the model's, which --force deletes too: %s", m.Name, list(extra))
	}
	return err
}

// Partial is a download that was cut short.
type Partial struct {
	Name   string // of the model
	Commit string // the first 12 digits
	Bytes  int64  // that are there
	dir    string
}

// Partials returns the downloads that were cut short and can be gone on
// with, or are under way, sorted by name.
func (s *Store) Partials() ([]Partial, error) { return s.partials("") }

// partials are those of one model, or of all.
func (s *Store) partials(name string) (out []Partial, err error) {
	entries, err := s.fsys.ReadDir(s.tmp(""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), tmpPull)
		folder, commit, ok2 := strings.Cut(rest, "@")
		if !ok || !ok2 || !e.IsDir() || name != "" && folder != folderOf(name) {
			continue
		}
		p := Partial{Name: strings.Replace(folder, "--", "/", 1), Commit: commit, dir: s.tmp(e.Name())}
		err := fs.WalkDir(os.DirFS(p.dir), ".", func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil // it may be under way, and change
			}
			if info, err := d.Info(); err == nil {
				p.Bytes += info.Size()
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
