package pipeline

import (
	"context"
	"os"
	"path/filepath"

	"github.com/permafrost-ml/permafrost/internal/models"
)

// files finds what a config names: base is its folder.
type files struct{ base string }

// path completes a path.
func (f files) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(f.base, filepath.FromSlash(p))
}

// model returns the path of an encoder's model: a file or a folder, or the
// folder of a model of that name in the user's store.
func (f files) model(ref string) (string, error) {
	if info, err := os.Stat(f.path(ref)); err == nil && !info.IsDir() {
		return f.path(ref), nil
	}
	return models.Resolve(context.Background(), ref, f.base, "")
}
