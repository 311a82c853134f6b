package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/cachesink"
)

type diffFlags struct {
	examples int
	exitCode bool
}

func (a *app) diffCommand() *cobra.Command {
	var flags diffFlags
	cmd := &cobra.Command{
		Use:   "diff DIR-or-CONFIG DIR-or-CONFIG",
		Short: "Compare what two caches hold",
		Long: help(`
Compares the encoders of two caches by name: the fields in which they differ,
the objects that only one has, and where fingerprint and dtype are the same, the
embeddings bit by bit. Then it compares the splits of each name, in each cache
the one committed last: rows added, removed, and changed, which are rows with
the same objects and another label, score, subgroup or kept column. How a cache
is cut into files and compressed makes no difference. Everything compared is
read and checked; nothing is changed. The exit code is 0 also where the caches
differ, unless --exit-code is given.`,
			exitConfig, exitCorrupt),
		Example: "  pipeline diff cache_dir other_cache\n  pipeline diff old.yaml new.yaml --examples 10\n" +
			"  pipeline diff cache_dir copy_of_it --exit-code --quiet",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("want two arguments, each a cache folder or a config file, not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.examples < 0 {
				return usagef("--examples takes a number from 0, not %d", flags.examples)
			}
			return a.diff(cmd.Context(), args[0], args[1], flags)
		},
	}
	f := cmd.Flags()
	f.IntVar(&flags.examples, "examples", 3, "show up to `N` objects and rows of each difference")
	f.BoolVar(&flags.exitCode, "exit-code", false, "end with exit code 1 where the caches differ")
	return cmd
}

// diffDoc is what diff --json prints.
type diffDoc struct {
	SchemaVersion int       `json:"schema_version"`
	A             diffPlace `json:"a"`
	B             diffPlace `json:"b"`
	*cachesink.CacheDiff
}

type diffPlace struct {
	Dir        string `json:"dir"`
	Generation int64  `json:"generation"`
}

func (a *app) diff(ctx context.Context, one, other string, flags diffFlags) error {
	var caches [2]*cachesink.Cache
	var places [2]diffPlace
	for i, place := range []string{one, other} {
		c, err := openCache(ctx, place, nil)
		if err != nil {
			return err
		}
		caches[i], places[i] = c, diffPlace{c.Storage().String(), c.Manifest().Generation}
	}
	examples := flags.examples
	if examples == 0 {
		examples = -1 // none
	}
	m := a.newMeter()
	d, err := cachesink.Diff(ctx, caches[0], caches[1], cachesink.DiffOptions{Examples: examples, OnProgress: func(done, total int64) {
		m.report(event{Phase: "diff", Bytes: done, Total: total})
	}})
	m.done()
	if err != nil {
		return err
	}
	doc := &diffDoc{SchemaVersion: schemaVersion, A: places[0], B: places[1], CacheDiff: d}
	if a.json {
		err = a.printJSON(doc)
	} else {
		err = a.printDiff(doc)
	}
	if err == nil && flags.exitCode && !d.Equal {
		err = &exitError{exitFailed}
	}
	return err
}

func (a *app) printDiff(d *diffDoc) error {
	for i, p := range []diffPlace{d.A, d.B} {
		fmt.Fprintf(a.stdout, "%c: %s, generation %d\n", 'a'+i, p.Dir, p.Generation)
	}
	if err := a.printEncoderDiffs(d.Encoders); err != nil {
		return err
	}
	if err := a.printSplitDiffs(d.Splits); err != nil {
		return err
	}
	verdict := "different"
	if d.Equal {
		verdict = "equal"
	}
	_, err := fmt.Fprintf(a.stdout, "\n%s\n", verdict)
	return err
}

func (a *app) printEncoderDiffs(encoders []cachesink.EncoderDiff) error {
	rows := [][]string{{"encoder", "objects in both", "only a", "only b", "embeddings"}}
	var more []string
	for i := range encoders {
		e := &encoders[i]
		var how string
		switch {
		case e.A == nil:
			how = "only in b: " + e.B.Folder
		case e.B == nil:
			how = "only in a: " + e.A.Folder
		case !e.Compared:
			how = "not compared: " + strings.Join(e.Differs, ", ")
		case e.Unequal.Count > 0:
			how = count(e.Unequal.Count) + " differ"
		default:
			how = "equal bit by bit"
		}
		rows = append(rows, []string{e.Name, count(e.Both), count(e.OnlyA.Count), count(e.OnlyB.Count), how})
		for _, o := range []struct {
			what string
			d    cachesink.ObjectDiff
		}{{"only in a", e.OnlyA}, {"only in b", e.OnlyB}, {"other embedding", e.Unequal}} {
			for _, id := range o.d.IDs {
				more = append(more, fmt.Sprintf("%s %s: object %s", e.Name, o.what, id))
			}
		}
	}
	return a.printSection(rows, more)
}

func (a *app) printSplitDiffs(splits []cachesink.SplitDiff) error {
	rows := [][]string{{"split", "rows in a", "rows in b", "same", "changed", "removed", "added", ""}}
	var more []string
	for i := range splits {
		s := &splits[i]
		row := []string{s.Name, "-", "-", "-", "-", "-", "-", ""}
		if s.A != nil {
			row[1] = count(s.A.Rows)
		}
		if s.B != nil {
			row[2] = count(s.B.Rows)
		}
		if s.Compared {
			for k, n := range []int64{s.Same, s.Changed.Count, s.Removed.Count, s.Added.Count} {
				row[3+k] = count(n)
			}
		}
		switch {
		case s.A == nil:
			row[7] = "only in b: " + s.B.Folder
		case s.B == nil:
			row[7] = "only in a: " + s.A.Folder
		case !s.Compared:
			row[7] = "rows not compared"
		case s.Reordered:
			row[7] = "in another order"
		case s.Rekeyed:
			row[7] = "with other keys"
		}
		rows = append(rows, row)
		for _, d := range s.Differs {
			more = append(more, fmt.Sprintf("%s differs: %s", s.Name, d))
		}
		for _, d := range s.Sources {
			more = append(more, fmt.Sprintf("%s source: %s", s.Name, shortHashes(d)))
		}
		for _, r := range s.Changed.First {
			what := line(strings.Join(r.Differs, ", "), 120)
			more = append(more, fmt.Sprintf("%s ~ row %d, now %d (%s): %s", s.Name, r.A.Row, r.B.Row, rowKeys(r.B), what))
		}
		for _, r := range s.Removed.First {
			more = append(more, fmt.Sprintf("%s - row %d (%s) %s", s.Name, r.A.Row, rowKeys(r.A), rowColumns(r.A)))
		}
		for _, r := range s.Added.First {
			more = append(more, fmt.Sprintf("%s + row %d (%s) %s", s.Name, r.B.Row, rowKeys(r.B), rowColumns(r.B)))
		}
	}
	return a.printSection(rows, more)
}

// printSection prints a table and what there is to say of its rows.
func (a *app) printSection(rows [][]string, more []string) error {
	fmt.Fprintln(a.stdout)
	if err := table(a.stdout, rows); err != nil {
		return err
	}
	for _, line := range more {
		if _, err := fmt.Fprintln(a.stdout, "  "+line); err != nil {
			return err
		}
	}
	return nil
}

// rowKeys writes the keys of a row: "enc_key=a text, ...".
func rowKeys(r *cachesink.Row) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.Keys)) {
		out = append(out, name+"="+cut(r.Keys[name]))
	}
	return strings.Join(out, ", ")
}

// rowColumns writes the other columns of a row.
func rowColumns(r *cachesink.Row) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.Columns)) {
		out = append(out, name+"="+cut(cachesink.ValueText(r.Columns[name])))
	}
	return strings.Join(out, ", ")
}
