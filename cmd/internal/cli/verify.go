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

func (a *app) verifyCommand() *cobra.Command {
	var sets []string
	var opts pipeline.ReencodeOptions
	cmd := &cobra.Command{
		Use:   "verify DIR-or-CONFIG",
		Short: "Read every byte of a cache and report what is damaged",
		Long: help(`
Reads every file that counts in a cache and checks checksums, structure, numbers
of rows and positions. It changes nothing.

With --reencode N and a config, N stored objects of each cached encoder are then
found in the dataset, which is read once, encoded again, and compared with what the
cache replays. On the machine that filled the cache they are equal to the bit. The
exit code is 5 where a value differs by more than another processor's arithmetic
explains: 1e-5 of the embedding's norm; in float16 also 1e-3 of the value, in int8
one quantization step, since both sides are rounded. For an encoder whose output
depends on the batch, up to 16 batches are encoded for each object.`,
			exitConfig, exitCorrupt),
		Example: "  pipeline verify cache_dir\n  pipeline verify config.yaml --json\n  pipeline verify config.yaml --reencode 100 --seed 7",
		Args:    oneArg("a cache folder or a config file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			changed := cmd.Flags().Changed
			if changed("reencode") && opts.Sample < 1 {
				return usagef("--reencode takes a number from 1, not %d", opts.Sample)
			}
			if changed("seed") && !changed("reencode") {
				return usagef("--seed chooses what --reencode compares, which is not there")
			}
			return a.verify(cmd.Context(), args[0], sets, opts)
		},
	}
	cmd.Flags().IntVar(&opts.Sample, "reencode", 0, "compare `N` stored objects of each encoder with what it gives now")
	cmd.Flags().Uint64Var(&opts.Seed, "seed", 0, "a `NUMBER` that chooses the objects of --reencode")
	cmd.Flags().StringArrayVar(&sets, "set", nil, "override a value of the config, such as `a.b=c`; may be repeated")
	return cmd
}

// finding is a damaged file.
type finding struct {
	File  string `json:"file"`
	Error string `json:"error"`
}

// verifyDoc is what verify --json prints.
type verifyDoc struct {
	SchemaVersion int       `json:"schema_version"`
	Dir           string    `json:"dir"`
	Generation    int64     `json:"generation"`
	Files         int64     `json:"files"`
	Bytes         int64     `json:"bytes"`
	Seconds       float64   `json:"seconds"`
	MBPerSecond   float64   `json:"mb_per_second"`
	Findings      []finding `json:"findings"`
	// Reencoded is what --reencode found, where no file is damaged, and Error
	// what is wrong with it.
	Reencoded []cachesink.Rechecked `json:"reencoded,omitempty"`
	Error     *failure              `json:"error,omitempty"`
}

func (a *app) verify(ctx context.Context, place string, sets []string, opts pipeline.ReencodeOptions) error {
	if opts.Sample > 0 {
		if config, err := isConfig(place, sets); err != nil {
			return err
		} else if !config {
			return usagef("--reencode needs a config, which says what the encoders and the dataset are, and %s is none", place)
		}
	}
	c, err := openCache(ctx, place, sets)
	if err != nil {
		return err
	}
	doc := verifyDoc{
		SchemaVersion: schemaVersion, Dir: c.Storage().String(), Generation: c.Manifest().Generation, Findings: []finding{},
	}
	start := time.Now()
	m := a.newMeter()
	total := c.Manifest().Bytes()
	m.report(event{Phase: "verify", Total: total})
	for found, n := range c.Verify(ctx) {
		doc.Files++
		doc.Bytes += n
		m.report(event{Phase: "verify", Bytes: doc.Bytes, Total: total})
		if found != nil && ctx.Err() == nil {
			doc.Findings = append(doc.Findings, finding{found.File, found.Err.Error()})
		}
	}
	m.done()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	doc.Seconds = time.Since(start).Seconds()
	doc.MBPerSecond = rate(doc.Bytes, doc.Seconds) / 1e6
	var stale error
	if opts.Sample > 0 && len(doc.Findings) == 0 {
		r, err := a.reencode(ctx, place, sets, opts)
		if err != nil {
			return err
		}
		doc.Reencoded = r.Encoders
		if stale = r.Err(); stale != nil {
			f := classify(ctx, stale)
			doc.Error = &f
		}
	}
	if err := a.printVerify(&doc); err != nil {
		return err
	}
	if len(doc.Findings) > 0 || stale != nil && a.json {
		return &exitError{exitCorrupt}
	}
	return stale
}

func (a *app) reencode(ctx context.Context, place string, sets []string, opts pipeline.ReencodeOptions) (r *pipeline.ReencodeReport, err error) {
	cfg, err := pipeline.LoadConfig(place, sets...)
	if err != nil {
		return nil, err
	}
	err = a.withPipeline(ctx, cfg, func(ctx context.Context, p *pipeline.Pipeline[source.Fields]) (err error) {
		r, err = p.Reencode(ctx, opts)
		return err
	})
	return r, err
}

func (a *app) printVerify(d *verifyDoc) error {
	if a.json {
		return a.printJSON(d)
	}
	for _, f := range d.Findings {
		fmt.Fprintf(a.stdout, "%s: %s\n", f.File, f.Error)
	}
	bad := int64(len(d.Findings))
	what := "all are as they were written"
	if bad > 0 {
		what = fmt.Sprintf("%s damaged", count(bad))
	}
	_, err := fmt.Fprintf(a.stdout, "%s: generation %d, %s %s, %s in %s (%.0f MB/s): %s\n",
		d.Dir, d.Generation, count(d.Files), plural(d.Files, "file", "files"), size(d.Bytes), span(d.Seconds), d.MBPerSecond, what)
	for _, r := range d.Reencoded {
		if r.Stored == 0 {
			_, err = fmt.Fprintf(a.stdout, "encoder %s: nothing is stored under this config\n", r.Encoder)
			continue
		}
		fmt.Fprintf(a.stdout, "encoder %s: %s of %s %s sampled, %s compared, %s equal to the bit", r.Encoder,
			count(r.Sampled), count(r.Stored), plural(r.Stored, "object", "objects"), count(r.Compared), count(r.BitEqual))
		if r.Gone > 0 {
			fmt.Fprintf(a.stdout, ", %s in the dataset no more", count(r.Gone))
		}
		if r.BatchGone > 0 {
			fmt.Fprintf(a.stdout, ", %s with a batch that cannot be made again", count(r.BatchGone))
		}
		_, err = fmt.Fprintf(a.stdout, ", largest difference %.2g of the norm, %s stale\n", r.MaxDifference, count(int64(len(r.Stale))))
	}
	return err
}
