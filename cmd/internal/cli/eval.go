package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

func (a *app) evalCommand() *cobra.Command {
	var flags configFlags
	var config, cache, split string
	var noEncode bool
	cmd := &cobra.Command{
		Use:   "eval OUT",
		Short: "Measure a trained head on another split",
		Long: help(`
Measures the embeddings of a split as the encoders give them and after the
trained head of the output folder OUT.

The split is one of the cache that OUT was trained from, or of --cache: the
newest of that name, as the encoders of the training encoded it. The metrics
are those of the training. Neither the dataset nor an encoder is opened.

With --config the split, the metrics and the cache are those of a config, such
as one of another dataset; its encoders must be those of the training. What is
missing in its cache is encoded first.`,
			exitConfig, exitWouldEncode, exitCorrupt, exitNoSpace, exitQuarantined),
		Example: "  pipeline eval out --split test\n  pipeline eval out --config other.yaml --set eval.sample.size=1000 --json",
		Args:    oneArg("an output folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if config == "" {
				for _, name := range []string{"set", "limit", "on-error", "check-sources", "ignore-space", "verify", "no-encode"} {
					if cmd.Flags().Changed(name) {
						return usagef("--%s goes with --config", name)
					}
				}
				return a.evalCache(cmd.Context(), args[0], cache, split)
			}
			cfg, err := flags.load(cmd, config)
			if err != nil {
				return err
			}
			cfg.NoEncode = noEncode
			return a.eval(cmd.Context(), cfg, args[0], split)
		},
	}
	f := cmd.Flags()
	f.StringVar(&split, "split", "", "the `SPLIT` to measure (default: as the training, or the config, says)")
	f.StringVar(&config, "config", "", "measure a split of the dataset that a `CONFIG` declares")
	f.StringVar(&cache, "cache", "", "measure a split of the cache `DIR` (default: that of the training)")
	f.BoolVar(&noEncode, "no-encode", false, "fail with exit code 4 instead of encoding anything")
	cmd.MarkFlagsMutuallyExclusive("config", "cache")
	flags.add(cmd)
	flags.addSources(cmd)
	flags.addSpace(cmd)
	flags.addVerify(cmd)
	return cmd
}

// eval measures a split of a config.
func (a *app) eval(ctx context.Context, cfg config, output, split string) error {
	var res *pipeline.EvalResult
	err := a.withPipeline(ctx, cfg, func(ctx context.Context, p *pipeline.Pipeline[source.Fields]) (err error) {
		res, err = p.Eval(ctx, output, split)
		return err
	})
	if err == nil {
		err = a.printEval(res)
	}
	if err != nil {
		return err
	}
	return quarantined(res.Fill)
}

// evalCache measures a split of a cache alone.
func (a *app) evalCache(ctx context.Context, output, cache, split string) error {
	if cache == "" {
		var err error
		if cache, err = pipeline.OutputCache(output); err != nil {
			return fmt.Errorf("load %s: %w", output, err)
		}
		if cache == "" {
			return errors.New("the head was trained from a cache in memory: name another one with --cache, or a dataset with --config")
		}
	}
	c, err := openCache(ctx, cache, nil)
	if err != nil {
		return err
	}
	res, err := pipeline.EvalCache(ctx, c, output, split)
	if err != nil {
		return err
	}
	return a.printEval(res)
}

func (a *app) printEval(r *pipeline.EvalResult) error {
	if a.json {
		return a.printJSON(r)
	}
	e := r.Eval
	var rows [][]string
	if r.Fill != nil {
		rows = fillRows(r.Fill)
	}
	queries := fmt.Sprintf("%s %s", count(int64(e.Queries)), plural(int64(e.Queries), "query", "queries"))
	if e.Sample != nil {
		queries = fmt.Sprintf("%d samples of %s", e.Sample.Repeats, queries)
	}
	rows = append(rows, cacheRow(r.Cache), []string{"eval", fmt.Sprintf("%s: %s among %s %s",
		e.Split, queries, count(int64(e.Objects)), plural(int64(e.Objects), "object", "objects"))})
	if err := table(a.stdout, rows); err != nil {
		return err
	}
	rows = [][]string{{"metric", "baseline", "tuned", "delta"}}
	for _, name := range slices.Sorted(maps.Keys(e.Baseline)) {
		rows = append(rows, []string{
			name, estimate(name, e.Baseline, e.BaselineDeviation), estimate(name, e.Tuned, e.TunedDeviation),
			fmt.Sprintf("%+.4f", e.Tuned[name]-e.Baseline[name]),
		})
	}
	return table(a.stdout, rows)
}

// estimate writes a metric, with its deviation where it is of samples.
func estimate(name string, values, deviations map[string]float64) string {
	s := fmt.Sprintf("%.4f", values[name])
	if deviations != nil {
		s += fmt.Sprintf(" ± %.4f", deviations[name])
	}
	return s
}
