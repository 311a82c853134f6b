package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
)

// openCache opens the cache in a folder, or the one that a config names.
func openCache(ctx context.Context, place string, sets []string) (*cachesink.Cache, error) {
	info, err := os.Stat(place)
	if err != nil {
		return nil, err
	}
	dir := place
	if !info.IsDir() {
		cfg, err := pipeline.LoadConfig(place, sets...)
		if err != nil {
			return nil, err
		}
		if cfg.Cache == nil || cfg.Cache.SaveDir == "" {
			return nil, fmt.Errorf("%w: %s names no cache.save_dir", errNoCache, place)
		}
		dir = cfg.Cache.SaveDir
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoCache, err)
		}
	} else if len(sets) > 0 {
		return nil, usagef("--set is for a config, and %s is a folder", place)
	}
	c, err := cachesink.Open(ctx, cachesink.Dir(dir), nil)
	if err != nil {
		return nil, err
	}
	if c.Manifest().Generation == 0 {
		return nil, fmt.Errorf("%w: nothing is committed in %s", errNoCache, dir)
	}
	return c, nil
}
