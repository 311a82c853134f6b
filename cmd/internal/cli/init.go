package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/pipeline"
)

type initFlags struct {
	output, pair, group string
	force               bool
}

func (a *app) initCommand() *cobra.Command {
	var flags initFlags
	cmd := &cobra.Command{
		Use:   "init DATA",
		Short: "Print a config for a dataset",
		Long: help(`
Looks at the first rows of DATA and prints a config with comments, ready to run.
DATA is a file of JSON lines or CSV (.jsonl, .ndjson, .csv, .tsv, also .gz and
.zst), of Parquet or Arrow (.parquet, .arrow, .feather, .ipc), a folder of such
files, whose names say which split they belong to, a folder of images, each in
a folder named for its label, or godoc: the documentation of the installed Go
toolchain.

Columns are guessed by their names and contents; --pair and --group say which
ones they are.`),
		Example: "  pipeline init faq.jsonl --output config.yaml\n  pipeline init tickets.csv --group text,category\n  pipeline init godoc",
		Args:    oneArg("a file, a folder or godoc"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.init(cmd.Context(), args[0], flags)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&flags.output, "output", "o", "", "write `FILE` instead of the standard output; paths become relative to it")
	f.StringVar(&flags.pair, "pair", "", "the columns of two texts that match: `A,B`")
	f.StringVar(&flags.group, "group", "", "the columns of a text and its label: `TEXT,LABEL`")
	f.BoolVar(&flags.force, "force", false, "overwrite the file of --output")
	cmd.MarkFlagsMutuallyExclusive("pair", "group")
	return cmd
}

func (a *app) init(ctx context.Context, data string, flags initFlags) error {
	if flags.output != "" {
		if err := mayWrite(flags.output, flags.force); err != nil {
			return err
		}
	}
	d, err := findData(data, flags.output)
	if err != nil {
		return err
	}
	cols, err := d.columns(ctx)
	if err != nil {
		return err
	}
	s, err := flags.sample(d, cols)
	if err != nil {
		return err
	}
	text := configText(data, d, cols, s)
	if _, err := pipeline.ParseConfig("the new config", []byte(text)); err != nil {
		return fmt.Errorf("%s cannot be named in a config: %w", data, err)
	}
	if flags.output != "" || !a.json {
		err := a.writeTo(flags.output, flags.force, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
		if err != nil {
			return err
		}
	}
	switch {
	case a.json:
		return a.printJSON(struct {
			SchemaVersion int      `json:"schema_version"`
			Config        string   `json:"config"`
			Output        string   `json:"output"`
			Columns       []column `json:"columns"`
			Sample        sample   `json:"sample"`
		}{schemaVersion, text, flags.output, cols, s})
	case flags.output != "":
		_, err = fmt.Fprintf(a.stdout, "%s: next, `pipeline plan %s` and `pipeline run %s`\n", flags.output, flags.output, flags.output)
	}
	return err
}

// sample takes the columns from the flags, or guesses them.
func (f *initFlags) sample(d *dataset, cols []column) (sample, error) {
	given := func(flag, arg string) (first, second string, err error) {
		first, second, ok := strings.Cut(arg, ",")
		if !ok {
			return "", "", usagef("--%s takes two columns, A,B, not %q", flag, arg)
		}
		for _, name := range []string{first, second} {
			if find(cols, name) == nil {
				return "", "", usagef("--%s: no column %q, there are %s", flag, name, names(cols))
			}
		}
		return first, second, nil
	}
	var s sample
	var err error
	if d.images() && f.pair+f.group != "" {
		return s, usagef("a folder of images has images with labels: leave --pair and --group out")
	}
	switch {
	case f.pair != "":
		s.Kind = "pair"
		s.A, s.B, err = given("pair", f.pair)
	case f.group != "":
		s.Kind = "group"
		s.A, s.Label, err = given("group", f.group)
	case d.images():
		s = sample{Kind: "group", A: "image", Label: "label"}
	default:
		var ok bool
		if s, ok = guess(cols); !ok {
			err = fmt.Errorf("cannot tell which columns to use of %s: say it with --pair A,B or --group TEXT,LABEL", names(cols))
		}
	}
	return s, err
}
