package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
)

// openCache opens the cache at a place, or the one that a config names.
func openCache(ctx context.Context, arg string, sets []string) (*cachesink.Cache, error) {
	place, err := cachePlace(arg, sets)
	if err != nil {
		return nil, err
	}
	st, err := cachesink.OpenStorage(ctx, place)
	if err != nil {
		return nil, err
	}
	c, err := cachesink.Open(ctx, st, nil)
	if err != nil {
		return nil, err
	}
	if c.Manifest().Generation == 0 {
		return nil, fmt.Errorf("%w: nothing is committed in %s", errNoCache, st)
	}
	return c, nil
}

// isConfig says whether an argument is a config rather than the place of a
// cache, which --set is not for.
func isConfig(arg string, sets []string) (bool, error) {
	if cachesink.Scheme(arg) == "" {
		info, err := os.Stat(arg)
		if err != nil || !info.IsDir() {
			return err == nil, err
		}
	}
	if len(sets) > 0 {
		return false, usagef("--set is for a config, and %s is none", arg)
	}
	return false, nil
}

// cachePlace returns where the cache lies that an argument names.
func cachePlace(arg string, sets []string) (string, error) {
	if config, err := isConfig(arg, sets); config {
		return configPlace(arg, sets)
	} else if err != nil {
		return "", err
	}
	return arg, nil
}

// configPlace returns where a config keeps its cache.
func configPlace(config string, sets []string) (string, error) {
	cfg, err := pipeline.LoadConfig(config, sets...)
	if err != nil {
		return "", err
	}
	if cfg.Cache == nil || cfg.Cache.SaveDir == "" {
		return "", fmt.Errorf("%w: %s names no cache.save_dir", errNoCache, config)
	}
	place := cfg.Cache.SaveDir
	if cachesink.Scheme(place) == "" {
		if _, err := os.Stat(place); err != nil {
			return "", fmt.Errorf("%w: %w", errNoCache, err)
		}
	}
	return place, nil
}
