package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

func (a *app) tuneCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tune",
		Short:   "Measure settings on this machine",
		Long:    help("Measures what settings are the fastest on this machine, with the user's own data."),
		Example: "  pipeline tune encode config.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.tuneEncodeCommand())
	return cmd
}

func (a *app) tuneEncodeCommand() *cobra.Command {
	var flags configFlags
	var opts pipeline.TuneOptions
	cmd := &cobra.Command{
		Use:   "encode CONFIG",
		Short: "Find the fastest batch size and number of workers of an encoder",
		Long: help(`
Encodes objects of the dataset with several batch sizes and numbers of workers,
in turns, and prints how fast each was and which to write into the config. It
stores nothing.`, exitConfig),
		Example: "  pipeline tune encode config.yaml\n  pipeline tune encode config.yaml --batch-sizes 16,64 --workers 2 --json",
		Args:    oneArg("a config file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := flags.load(cmd, args[0])
			if err != nil {
				return err
			}
			if opts.Objects < 0 || opts.Seconds < 0 {
				return usagef("--objects and --seconds must be positive")
			}
			return a.tuneEncode(cmd.Context(), cfg, opts)
		},
	}
	flags.add(cmd)
	fs := cmd.Flags()
	fs.StringVar(&opts.Encoder, "encoder", "", "the `NAME` of the encoder (default: the only one)")
	fs.IntVar(&opts.Objects, "objects", 0, "encode the first `N` distinct objects (default 2000)")
	fs.Float64Var(&opts.Seconds, "seconds", 0, "measure each layout for so many `SECONDS` (default 4)")
	fs.IntSliceVar(&opts.BatchSizes, "batch-sizes", nil, "the `SIZES` to measure (default 8,32,128 and that of the config)")
	fs.IntSliceVar(&opts.Workers, "workers", nil, "the `NUMBERS` of workers to measure (default 1, one a core and that of the config)")
	return cmd
}

func (a *app) tuneEncode(ctx context.Context, cfg config, opts pipeline.TuneOptions) error {
	var r *pipeline.TuneReport
	err := a.withPipeline(ctx, cfg, func(ctx context.Context, p *pipeline.Pipeline[source.Fields]) (err error) {
		r, err = p.Tune(ctx, opts)
		return err
	})
	if err != nil {
		return err
	}
	best := r.Best()
	if a.json {
		return a.printJSON(struct {
			SchemaVersion int `json:"schema_version"`
			*pipeline.TuneReport
			Best pipeline.Layout `json:"best"`
		}{schemaVersion, r, best})
	}
	rows := [][]string{{"batch_size", "num_workers", "objects/s", ""}}
	for _, l := range r.Layouts {
		note := ""
		if l.Configured {
			note = "the config's"
		}
		rows = append(rows, []string{fmt.Sprint(l.BatchSize), fmt.Sprint(l.NumWorkers), count(int64(l.ObjectsPerSecond)), note})
	}
	if err := table(a.stdout, rows); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "\nbest for %s: cache: {batch_size: %d, num_workers: %d}\n", r.Encoder, best.BatchSize, best.NumWorkers)
	if err == nil && !r.BatchInvariant {
		_, err = fmt.Fprintln(a.stdout, "Its embeddings depend on the batch size: another one encodes everything anew.")
	}
	return err
}
