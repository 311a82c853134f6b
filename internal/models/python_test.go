package models

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/internal/models/hubtest"
)

// The Python client of the public hub takes the hub of these tests for one,
// and gets from it the same files as a pull; its cache can be imported.
func TestPythonClient(t *testing.T) {
	const script = `
import sys
from huggingface_hub import HfApi, hf_hub_download
info = HfApi().model_info("org/tiny", files_metadata=True)
print(sum(s.size for s in info.siblings), sum(1 for s in info.siblings if s.lfs and s.lfs.sha256))
paths = {f: hf_hub_download("org/tiny", f) for f in sys.argv[1:]}
print(paths["config.json"].removesuffix("/config.json"))
`
	python := os.Getenv("PERMAFROST_HUB_PYTHON") // one that has huggingface_hub
	if python == "" {
		python = "python3"
	}
	if exec.CommandContext(t.Context(), python, "-c", "import huggingface_hub").Run() != nil {
		t.Skip("no Python with huggingface_hub")
	}
	h, s, _ := newHubTest(t)
	h.Fault(weightsAt, hubtest.Fault{Cut: []int64{1 << 20}})
	o := pullFrom(h)
	ours, err := s.Pull(t.Context(), repo, o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, append([]string{"-c", script}, pulled...)...)
	cmd.Env = append(os.Environ(), "HF_ENDPOINT="+h.URL, "HF_HOME="+t.TempDir(), "HF_TOKEN=", "HF_HUB_DISABLE_XET=1", "HF_HUB_DISABLE_TELEMETRY=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python: %v\n%s", err, out)
	}
	listed, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if !strings.HasSuffix(listed, " 5") {
		t.Errorf("the client lists %q", listed)
	}
	r, err := s.Import(t.Context(), dir, ImportOptions{Name: "theirs"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Digest != ours.Digest || r.Source.Repo != repo || r.Source.Commit != ours.Source.Commit || filepath.Base(dir) != ours.Source.Commit {
		t.Errorf("the client's cache %s: %+v, digest %s, want %s", dir, r.Source, r.Digest, ours.Digest)
	}
}
