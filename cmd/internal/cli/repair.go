package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

func (a *app) repairCommand() *cobra.Command {
	var flags configFlags
	var opts pipeline.RepairOptions
	cmd := &cobra.Command{
		Use:   "repair CONFIG-or-DIR",
		Short: "Make a damaged cache whole again",
		Long: help(`
Reads every file that counts in a cache, and repairs what is damaged: the objects
whose embeddings lie in damaged blocks of 64 KiB, and no others, are encoded
again, with an encoder whose embeddings depend on the batch all of their object
batches, and of a compressed shard whole record batches; damaged rows are written
again where the dataset still has them. A damaged manifest is restored from its
copy, or the generation before it is made the newest. With a folder in place of a
config, only what needs no encoder is repaired. What stays damaged is listed, and
the exit code is 5; --drop takes it out of the cache, so that a fill encodes it
again.`,
			exitConfig, exitCorrupt, exitNoSpace),
		Example: "  pipeline repair config.yaml\n  pipeline repair cache_dir --dry-run\n  pipeline repair config.yaml --drop --json",
		Args:    oneArg("a config file or a cache folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.repair(cmd, args[0], &flags, opts)
			if err != nil {
				return err
			}
			return a.printRepair(r, opts)
		},
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.BoolVar(&opts.DryRun, "dry-run", false, "list what is damaged, and change nothing")
	f.BoolVar(&opts.Drop, "drop", false, "take what cannot be repaired out of the cache")
	return cmd
}

func (a *app) repair(cmd *cobra.Command, place string, flags *configFlags, opts pipeline.RepairOptions) (r *pipeline.RepairReport, err error) {
	config, err := isConfig(place, flags.sets)
	if err != nil {
		return nil, err
	}
	if !config {
		st, err := cachesink.OpenStorage(cmd.Context(), place)
		if err != nil {
			return nil, err
		}
		return pipeline.RepairPlace(cmd.Context(), st, opts)
	}
	cfg, err := flags.load(cmd, place)
	if err != nil {
		return nil, err
	}
	if cfg.Cache == nil || cfg.Cache.SaveDir == "" {
		return nil, fmt.Errorf("%w: %s names no cache.save_dir", errNoCache, place)
	}
	err = a.withPipeline(cmd.Context(), cfg, func(ctx context.Context, p *pipeline.Pipeline[source.Fields]) (err error) {
		r, err = p.Repair(ctx, opts)
		return err
	})
	return r, err
}

// repairDoc is what repair --json prints.
type repairDoc struct {
	SchemaVersion int `json:"schema_version"`
	*pipeline.RepairReport
}

func (a *app) printRepair(r *pipeline.RepairReport, opts pipeline.RepairOptions) error {
	if a.json {
		if err := a.printJSON(repairDoc{schemaVersion, r}); err != nil {
			return err
		}
	} else {
		if r.Manifest != "" {
			fmt.Fprintln(a.stdout, r.Manifest)
		}
		for _, f := range r.Repaired {
			fmt.Fprintf(a.stdout, "%s: repaired\n", f)
		}
		for _, l := range r.Left {
			fmt.Fprintf(a.stdout, "%s: damaged: %s\n", l.File, l.Reason)
		}
		for _, s := range r.Dropped {
			fmt.Fprintf(a.stdout, "split %s %s: dropped, %s rows\n", s.Name, short(s.Fingerprint), count(s.Rows))
		}
		n := int64(len(r.Damaged))
		kept := ""
		if r.Kept > 0 {
			kept = fmt.Sprintf(", %s of the same shards kept", count(r.Kept))
		}
		_, err := fmt.Fprintf(a.stdout, "%s: %s %s damaged, %s repaired, %s %s encoded again%s\n", r.Dir, count(n), plural(n, "file was", "files were"),
			count(int64(len(r.Repaired))), count(r.Encoded), plural(r.Encoded, "object", "objects"), kept)
		if err != nil {
			return err
		}
	}
	if len(r.Left) > 0 && (!opts.Drop || opts.DryRun) {
		return &exitError{exitCorrupt}
	}
	return nil
}
