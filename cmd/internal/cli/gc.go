package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

type gcFlags struct {
	sets    []string
	yes     bool
	grace   time.Duration
	keep    int
	compact bool
}

func (a *app) gcCommand() *cobra.Command {
	var flags gcFlags
	cmd := &cobra.Command{
		Use:   "gc DIR-or-CONFIG...",
		Short: "List what a cache does not need any more, and delete it with --yes",
		Long: help(`
Lists what nothing needs: rows that newer ones of the same split have replaced,
encoders that no remaining row uses, generations that were replaced, and what
fills that have ended left behind. With --yes it is deleted. What was in use
within the grace stays, and so does what running fills use. With --compact,
shards that are mostly garbage, and neighbours that are tiny, are written anew
together with the rows that name their objects; nothing is encoded. What a
config's dataset is now stays, whatever was filled after it: name all configs
that share a cache.`,
			exitConfig, exitCorrupt, exitNoSpace),
		Example: "  pipeline gc cache_dir\n  pipeline gc cache_dir --yes --compact\n  pipeline gc minilm.yaml static.yaml --keep 2 --json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case flags.keep < 1:
				return usagef("--keep takes a number from 1, not %d", flags.keep)
			case flags.grace < 0:
				return usagef("--grace takes a time from 0, not %v", flags.grace)
			}
			return a.gc(cmd.Context(), args, flags)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&flags.yes, "yes", false, "delete what is listed")
	f.DurationVar(&flags.grace, "grace", cachesink.DefaultGrace, "how long what is no longer needed stays, a `TIME` such as 24h or 30m; 0 where nothing else uses the cache")
	f.IntVar(&flags.keep, "keep", 1, "keep the newest `N` states of each split")
	f.BoolVar(&flags.compact, "compact", false, "rewrite shards that are mostly garbage, or tiny")
	f.StringArrayVar(&flags.sets, "set", nil, "override a value of the config, such as `a.b=c`; may be repeated")
	return cmd
}

// gcDoc is what gc --json prints.
type gcDoc struct {
	SchemaVersion int    `json:"schema_version"`
	Dir           string `json:"dir"`
	Deleted       bool   `json:"deleted"` // else it is only listed
	Bytes         int64  `json:"bytes"`   // of the files
	*cachesink.GCPlan
}

func (a *app) gc(ctx context.Context, args []string, flags gcFlags) error {
	c, err := openCache(ctx, args[0], flags.sets)
	if err != nil {
		return err
	}
	opts := cachesink.GCOptions{Keep: flags.keep, Grace: flags.grace, Compact: flags.compact}
	if opts.Protect, err = a.inUse(ctx, c.Storage().String(), args, flags.sets); err != nil {
		return err
	}
	if flags.grace == 0 {
		opts.Grace = -1
	}
	plan, err := c.Garbage(ctx, opts)
	if err != nil {
		return err
	}
	if flags.yes {
		if plan, err = c.Collect(ctx, plan); err != nil {
			return err
		}
	}
	doc := gcDoc{schemaVersion, c.Storage().String(), flags.yes, plan.Bytes(), plan}
	if a.json {
		return a.printJSON(doc)
	}
	return a.printGC(&doc)
}

// inUse returns the fingerprints of the splits that configs of one cache have
// now. A single folder in the place of configs has none.
func (a *app) inUse(ctx context.Context, place string, args, sets []string) (prints []string, err error) {
	for _, arg := range args {
		config, err := isConfig(arg, sets)
		if err != nil {
			return nil, err
		}
		if !config {
			if len(args) > 1 {
				return nil, usagef("gc takes one folder, or configs; %s is none", arg)
			}
			return nil, nil
		}
		cfg, err := pipeline.LoadConfig(arg, sets...)
		if err != nil {
			return nil, err
		}
		if cfg.Cache == nil || cfg.Cache.SaveDir != place {
			return nil, usagef("%s has another cache than %s", arg, args[0])
		}
		err = a.withPipeline(ctx, cfg, func(ctx context.Context, p *pipeline.Pipeline[source.Fields]) error {
			stored, err := p.Stored(ctx)
			for _, s := range stored {
				prints = append(prints, s.Fingerprint)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return prints, nil
}

func (a *app) printGC(d *gcDoc) error {
	var rows [][]string
	for _, s := range d.Splits {
		rows = append(rows, []string{"split", s.Name + " " + short(s.Fingerprint), count(s.Rows) + plural(s.Rows, " row", " rows"), "newer rows have replaced it"})
	}
	for _, e := range d.Encoders {
		rows = append(rows, []string{"encoder", e.Folder, count(e.Objects) + plural(e.Objects, " object", " objects"), "no split uses it"})
	}
	for _, k := range d.Compact {
		rows = append(rows, []string{
			"compact", k.Folder, size(k.Bytes),
			fmt.Sprintf("%d shards become %d, without %s objects that no split names", k.Shards, k.Into, count(k.Garbage)),
		})
	}
	for _, g := range d.Files {
		rows = append(rows, []string{"file", g.File, size(g.Bytes), g.Why})
	}
	if err := table(a.stdout, rows); err != nil {
		return err
	}
	var later int64
	for _, g := range d.Later {
		later += g.Bytes
	}
	if n := int64(len(d.Later)); n > 0 {
		fmt.Fprintf(a.stdout, "%s more %s, %s: once the grace has passed\n", count(n), plural(n, "file", "files"), size(later))
	}
	if n := d.Young.Files + d.Spared.Files; n > 0 {
		fmt.Fprintf(a.stdout, "%s %s of fills, %s, may still be needed\n", count(n), plural(n, "file", "files"), size(d.Young.Bytes+d.Spared.Bytes))
	}
	n, what := int64(len(d.Files)), "to delete; --yes does it"
	switch {
	case d.Deleted:
		what = "deleted"
	case d.Empty():
		what = "to delete"
	}
	_, err := fmt.Fprintf(a.stdout, "%s: generation %d, %s %s, %s %s\n",
		d.Dir, max(d.Generation, d.Committed), count(n), plural(n, "file", "files"), size(d.Bytes), what)
	return err
}
