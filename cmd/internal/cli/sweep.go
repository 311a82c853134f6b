package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

// sweepFlags are the flags of commands that train.
type sweepFlags struct {
	specs  []string
	metric string
}

func (f *sweepFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringArrayVar(&f.specs, "sweep", nil, "train once for each of some `a.b=v1,v2,...`; repeated, for all combinations")
	fs.StringVar(&f.metric, "sweep-metric", "", "the `METRIC` that the best run of a sweep has most of, or loss (default: the first one declared)")
}

// sweepable are the sections of a config that the embeddings do not depend on.
var sweepable = []string{"head", "loss", "train", "seed"}

// axis is one setting of a sweep with its values.
type axis struct {
	path   string
	values []string
}

// axes reads the flags.
func (f *sweepFlags) axes() ([]axis, error) {
	var out []axis
	for _, spec := range f.specs {
		path, list, ok := strings.Cut(spec, "=")
		section, _, _ := strings.Cut(path, ".")
		values := splitValues(list)
		switch {
		case !ok || slices.Contains(values, ""):
			return nil, usagef("--sweep %s: want path=value,value,...", spec)
		case !slices.Contains(sweepable, section):
			return nil, usagef("--sweep %s: all runs share one cache, so a sweep is over %s", spec, strings.Join(sweepable, ", "))
		case slices.ContainsFunc(out, func(a axis) bool { return a.path == path }):
			return nil, usagef("--sweep %s: %s is swept already", spec, path)
		}
		out = append(out, axis{path, values})
	}
	return out, nil
}

// splitValues splits at commas outside of brackets, braces and quotes.
func splitValues(list string) []string {
	var out []string
	depth, from := 0, 0
	quote := rune(0)
	for i, r := range list {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '"' || r == '\'':
			quote = r
		case r == '{' || r == '[':
			depth++
		case r == '}' || r == ']':
			depth--
		case r == ',' && depth == 0:
			out = append(out, strings.TrimSpace(list[from:i]))
			from = i + 1
		}
	}
	return append(out, strings.TrimSpace(list[from:]))
}

// maxRuns bounds a sweep: more are a mistake.
const maxRuns = 10_000

// sets returns the settings of each run: all combinations, those of the last
// axis next to each other.
func sets(axes []axis) ([]map[string]string, error) {
	out := []map[string]string{{}}
	for _, a := range axes {
		if len(out)*len(a.values) > maxRuns {
			return nil, usagef("a sweep of over %d runs", maxRuns)
		}
		var more []map[string]string
		for _, set := range out {
			for _, v := range a.values {
				with := maps.Clone(set)
				with[a.path] = v
				more = append(more, with)
			}
		}
		out = more
	}
	return out, nil
}

// sweep trains a config once for each combination and prints a table.
func (a *app) sweep(cmd *cobra.Command, path string, flags configFlags, sw sweepFlags, noEncode bool) error {
	axes, err := sw.axes()
	if err != nil {
		return err
	}
	all, err := sets(axes)
	if err != nil {
		return err
	}
	base, err := flags.load(cmd, path)
	if err != nil {
		return err
	}
	base.NoEncode = noEncode
	var variants []pipeline.Variant[source.Fields]
	for _, set := range all {
		with := flags
		with.sets = slices.Clone(flags.sets)
		for _, ax := range axes { // in their order: a later one may be inside an earlier one
			with.sets = append(with.sets, ax.path+"="+set[ax.path])
		}
		cfg, err := with.load(cmd, path)
		if err != nil {
			return err
		}
		variants = append(variants, pipeline.Variant[source.Fields]{Set: set, Config: cfg})
	}
	var res *pipeline.SweepResult
	err = a.withPipeline(cmd.Context(), base, func(ctx context.Context, p *pipeline.Pipeline[source.Fields]) (err error) {
		res, err = p.Sweep(ctx, sw.metric, variants...)
		return err
	})
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(res)
	} else {
		rows := append(fillRows(res.Fill), cacheRow(res.Cache))
		if err = table(a.stdout, rows); err == nil {
			err = table(a.stdout, sweepRows(res, axes))
		}
	}
	if err != nil {
		return err
	}
	return quarantined(res.Fill)
}

// sweepRows are the table of a sweep; a * stands before the best run.
func sweepRows(r *pipeline.SweepResult, axes []axis) [][]string {
	head := []string{"", "run"}
	for _, a := range axes {
		head = append(head, a.path)
	}
	head = append(head, "loss")
	var metrics []string
	if r.Eval != nil {
		metrics = slices.Sorted(maps.Keys(r.Eval.Baseline))
	}
	rows := [][]string{append(head, metrics...)}
	if r.Eval != nil {
		base := slices.Concat([]string{"", "baseline"}, make([]string, len(axes)+1))
		for _, m := range metrics {
			base = append(base, fmt.Sprintf("%.4f", r.Eval.Baseline[m]))
		}
		rows = append(rows, base)
	}
	for i, run := range r.Runs {
		row := []string{"", run.Name}
		if i == r.Best {
			row[0] = "*"
		}
		for _, a := range axes {
			row = append(row, run.Set[a.path])
		}
		if run.Error != "" {
			rows = append(rows, append(row, "diverged"))
			continue
		}
		row = append(row, fmt.Sprintf("%.4g", run.Train.FinalLoss))
		for _, m := range metrics {
			row = append(row, fmt.Sprintf("%.4f", run.Tuned[m]))
		}
		rows = append(rows, row)
	}
	return rows
}
