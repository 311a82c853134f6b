package train

import (
	"testing"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// Through makes checkpoints go through another filesystem for a test.
func Through(t *testing.T, fsys store.FS) {
	before := fileSystem
	fileSystem = fsys
	t.Cleanup(func() { fileSystem = before })
}
