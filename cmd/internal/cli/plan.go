package cli

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

func (a *app) planCommand() *cobra.Command {
	var flags configFlags
	cmd := &cobra.Command{
		Use:   "plan CONFIG",
		Short: "Show what a fill would encode, and change nothing",
		Long: help(`
Counts what the cache holds of the dataset and what would be encoded, says where
each encoder's embeddings are kept and why, which fields of an encoder differ
from the one that is stored, and why a split must be read: what has changed
since the nearest fill of it. The size after a fill is a bound: what compression
will save is not known. It opens no encoder and writes nothing.`,
			exitConfig, exitCorrupt),
		Example: "  pipeline plan config.yaml\n  pipeline plan config.yaml --json",
		Args:    oneArg("a config file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := flags.load(cmd, args[0])
			if err != nil {
				return err
			}
			return a.plan(cmd.Context(), cfg)
		},
	}
	flags.add(cmd)
	flags.addSources(cmd)
	return cmd
}

func (a *app) plan(ctx context.Context, cfg config) error {
	var plan *pipeline.Plan
	err := a.withPipeline(ctx, cfg, func(ctx context.Context, p *pipeline.Pipeline[source.Fields]) (err error) {
		plan, err = p.Plan(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			SchemaVersion int `json:"schema_version"`
			*pipeline.Plan
		}{schemaVersion, plan})
	}
	for i, rows := range [][][]string{planSummary(plan), planEncoders(plan), planSplits(plan)} {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		if err := table(a.stdout, rows); err != nil {
			return err
		}
	}
	return nil
}

func planSummary(p *pipeline.Plan) [][]string {
	todo := fmt.Sprintf("%s %s", count(p.ToEncode), plural(p.ToEncode, "object", "objects"))
	switch {
	case p.Covered:
		todo = "nothing: the cache holds everything"
	case p.ToEncode == 0 && p.ToConvert == 0:
		todo = "nothing: only rows are to be stored"
	case p.ToConvert > 0:
		todo += fmt.Sprintf("; %s stored as float32 to convert", count(p.ToConvert))
	}
	return [][]string{
		{"cache", p.Dir},
		{"to encode", todo},
		{"size", planSize(p)},
	}
}

func planSize(p *pipeline.Plan) string {
	s := fmt.Sprintf("%s now, at most %s after, %s free", size(p.BytesNow), size(p.BytesAfter), size(p.Free))
	if p.Free >= 0 && p.Needs > p.Free {
		s += fmt.Sprintf("; a fill needs %s and is refused", size(p.Needs))
	}
	return s
}

func planEncoders(p *pipeline.Plan) [][]string {
	rows := [][]string{{"encoder", "cache", "dim", "dtype", "stored", "fingerprint", "why"}}
	for _, name := range slices.Sorted(maps.Keys(p.Encoders)) {
		e := p.Encoders[name]
		kept := string(e.CacheType)
		if e.Asked != e.CacheType {
			kept = fmt.Sprintf("%s -> %s", e.Asked, e.CacheType)
		}
		rows = append(rows, []string{name, kept, fmt.Sprint(e.Dim), string(e.DType), count(e.Stored), short(e.Fingerprint), e.Reason})
		for _, d := range e.Differs {
			rows = append(rows, []string{"", "", "", "", "", "differs", d})
		}
	}
	return rows
}

// hashes are fingerprints and digests, of which a table shows the beginning.
var hashes = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

func shortHashes(s string) string {
	return hashes.ReplaceAllStringFunc(s, func(h string) string { return h[:12] })
}

func planSplits(p *pipeline.Plan) [][]string {
	rows := [][]string{{"split", "rows", "encoder", "objects", "hits", "to encode", "source"}}
	for _, name := range slices.Sorted(maps.Keys(p.Splits)) {
		s := p.Splits[name]
		from := s.Source
		if s.Stored {
			from += " (stored, need not be read)"
		}
		first := []string{name, count(s.Rows)}
		for _, enc := range slices.Sorted(maps.Keys(s.Encoders)) {
			e := s.Encoders[enc]
			hits := count(e.Hits)
			if e.Converted > 0 {
				hits += fmt.Sprintf(" (%s converted)", count(e.Converted))
			}
			rows = append(rows, append(first, enc, count(e.Objects), hits, count(e.ToEncode), from))
			first, from = []string{"", ""}, ""
		}
		for _, d := range s.Differs {
			rows = append(rows, []string{"", "", "", "", "", "differs", shortHashes(d)})
		}
	}
	return rows
}
