package pipeline_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
)

// TestSaveDirElsewhere: a place with a scheme goes to the storage that was
// registered for it, as it was written, and takes what a folder takes.
func TestSaveDirElsewhere(t *testing.T) {
	places := map[string]cachesink.Storage{}
	cachesink.RegisterStorage("elsewhere", func(_ context.Context, url string) (cachesink.Storage, error) {
		if strings.HasSuffix(url, "/bad") {
			return nil, errors.New("refused")
		}
		if places[url] == nil {
			places[url] = cachesink.Memory()
		}
		return places[url], nil
	})
	cfg := config(t, "elsewhere://a/b")
	cfg.Output = "elsewhere:" // as a folder it would lie above
	if r := fill(t, cfg); r.Encoded == 0 {
		t.Errorf("the first fill: %+v", r)
	}
	if r := fill(t, sealEncoders(cfg)); r.Encoded != 0 {
		t.Errorf("the second fill: %+v", r)
	}
	if len(places) != 1 || places["elsewhere://a/b"] == nil {
		t.Errorf("places %v", places)
	}
	p := open(t, config(t, "elsewhere://a/bad"))
	if _, err := p.Plan(t.Context()); !errors.Is(err, pipeline.ErrConfig) || !strings.Contains(err.Error(), "save_dir: open the storage elsewhere://a/bad: refused") {
		t.Errorf("storage that cannot be opened: %v", err)
	}
	if _, err := pipeline.New(config(t, "nowhere://a/b")); !errors.Is(err, pipeline.ErrConfig) || !errors.Is(err, cachesink.ErrScheme) {
		t.Errorf("a scheme that nobody has: %v", err)
	}
}
