package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

func (a *app) runCommand() *cobra.Command {
	var flags configFlags
	var sweep sweepFlags
	var noEncode bool
	cmd := &cobra.Command{
		Use:   "run CONFIG",
		Short: "Fill the cache, train the head and measure it",
		Long: help(`
Brings the cache up to date, measures the embeddings as the encoders give them,
trains the head on the cached embeddings, measures again and writes the output
folder. What is in the cache is not encoded again.

With --sweep it trains once for each combination of values, on one fill, into a
folder each below the output folder, which gets the table as sweep.json.`,
			exitConfig, exitWouldEncode, exitCorrupt, exitNoSpace, exitQuarantined),
		Example: "  pipeline run config.yaml\n  pipeline run config.yaml --limit 1000 --set train.epochs=3 --json\n" +
			"  pipeline run config.yaml --sweep train.optimizer.lr=1e-4,1e-3 --sweep 'head={type: empty},{type: skip_connection}'",
		Args: oneArg("a config file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(sweep.specs) > 0 {
				return a.sweep(cmd, args[0], flags, sweep, noEncode)
			}
			cfg, err := flags.load(cmd, args[0])
			if err != nil {
				return err
			}
			cfg.NoEncode = noEncode
			return a.train(cmd.Context(), cfg)
		},
	}
	flags.add(cmd)
	flags.addSources(cmd)
	flags.addSpace(cmd)
	flags.addVerify(cmd)
	sweep.add(cmd)
	cmd.Flags().BoolVar(&noEncode, "no-encode", false, "fail with exit code 4 instead of encoding anything")
	return cmd
}

func (a *app) trainCommand() *cobra.Command {
	var flags configFlags
	var sweep sweepFlags
	cmd := &cobra.Command{
		Use:   "train CONFIG",
		Short: "Train the head from a cache that holds everything (run --no-encode)",
		Long: help(`
Does what run does, from a cache that must hold everything: nothing is encoded.`,
			exitConfig, exitWouldEncode, exitCorrupt, exitNoSpace),
		Example: "  pipeline fill config.yaml && pipeline train config.yaml --set train.optimizer.lr=0.01",
		Args:    oneArg("a config file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(sweep.specs) > 0 {
				return a.sweep(cmd, args[0], flags, sweep, true)
			}
			cfg, err := flags.load(cmd, args[0])
			if err != nil {
				return err
			}
			cfg.NoEncode = true
			return a.train(cmd.Context(), cfg)
		},
	}
	flags.add(cmd)
	flags.addSources(cmd)
	flags.addSpace(cmd)
	flags.addVerify(cmd)
	sweep.add(cmd)
	return cmd
}

// train runs a pipeline and prints its result.
func (a *app) train(ctx context.Context, cfg config) error {
	var res *pipeline.Result
	err := a.withPipeline(ctx, cfg, func(ctx context.Context, p *pipeline.Pipeline[source.Fields]) (err error) {
		res, err = p.Run(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(res)
	} else {
		err = table(a.stdout, resultRows(res))
	}
	if err != nil {
		return err
	}
	return quarantined(res.Fill)
}

// quarantined is the exit code of a fill that is done.
func quarantined(r *pipeline.FillReport) error {
	if r.Quarantine != "" {
		return &exitError{exitQuarantined}
	}
	return nil
}

func resultRows(r *pipeline.Result) [][]string {
	rows := append(fillRows(r.Fill), cacheRow(r.Cache))
	if t := r.Train; t != nil {
		of := count(t.Rows) + " rows"
		if t.Sampler != nil {
			of += fmt.Sprintf(" (%v)", t.Sampler["type"])
		}
		rows = append(rows, []string{"train", fmt.Sprintf("%s: %s, %d %s, %s an epoch (the first %s), %s samples/s, loss %.4g -> %.4g",
			t.Split, of, t.Epochs, plural(int64(t.Epochs), "epoch", "epochs"), span(t.MedianEpochSeconds), span(t.FirstEpochSeconds),
			count(int64(t.SamplesPerSecond)), t.FirstLoss, t.FinalLoss)})
		rows = append(rows, trainNotes(t)...)
	}
	if e := r.Eval; e != nil {
		for _, name := range slices.Sorted(maps.Keys(e.Baseline)) {
			rows = append(rows, []string{"eval", fmt.Sprintf("%s: %s %s -> %s (%+.4f)", e.Split, name,
				estimate(name, e.Baseline, e.BaselineDeviation), estimate(name, e.Tuned, e.TunedDeviation), e.Tuned[name]-e.Baseline[name])})
		}
	}
	if o := r.Output; o != nil {
		rows = append(rows, []string{"output", o.Head}, []string{"", o.Report}, []string{"", o.Page})
	}
	return rows
}

// trainNotes say what else there is to know of a training.
func trainNotes(t *pipeline.TrainReport) (rows [][]string) {
	if t.ResumedStep > 0 {
		rows = append(rows, []string{"", fmt.Sprintf("went on from step %s", count(t.ResumedStep))})
	}
	if b := t.Best; b != nil {
		text := fmt.Sprintf("best epoch %d: %s %.4g", b.Epoch+1, b.Monitor, b.Value)
		if t.Stopped {
			text += ", stopped early"
		}
		rows = append(rows, []string{"", text})
	}
	return rows
}

func fillRows(r *pipeline.FillReport) [][]string {
	line := func(objects, encoded, reused, converted, resumed int64) string {
		s := fmt.Sprintf("%s %s: %s encoded, %s reused", count(objects), plural(objects, "object", "objects"), count(encoded), count(reused))
		if converted > 0 {
			s += fmt.Sprintf(" (%s converted)", count(converted))
		}
		if resumed > 0 {
			s += fmt.Sprintf(" (%s resumed)", count(resumed))
		}
		return s
	}
	rows := [][]string{{"fill", fmt.Sprintf("%s %s, %s, %s", count(r.Rows), plural(r.Rows, "row", "rows"),
		line(r.Objects, r.Encoded, r.Reused, r.Converted, r.Resumed), span(r.Seconds))}}
	if len(r.Encoders) > 1 {
		for _, name := range slices.Sorted(maps.Keys(r.Encoders)) {
			e := r.Encoders[name]
			rows = append(rows, []string{"", fmt.Sprintf("%s (%s): %s", name, e.CacheType, line(e.Objects, e.Encoded, e.Reused, e.Converted, e.Resumed))})
		}
	}
	if r.Quarantined > 0 {
		left := fmt.Sprintf("%s bad %s left out", count(r.Quarantined), plural(r.Quarantined, "row", "rows"))
		if r.Quarantine != "" {
			left += ", see " + r.Quarantine
		}
		rows = append(rows, []string{"", left})
	}
	return rows
}

func cacheRow(c pipeline.CacheReport) []string {
	return []string{"cache", fmt.Sprintf("%s: %s, generation %d", c.Dir, size(c.Bytes), c.Generation)}
}
