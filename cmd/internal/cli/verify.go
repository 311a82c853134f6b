package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) verifyCommand() *cobra.Command {
	var sets []string
	cmd := &cobra.Command{
		Use:   "verify DIR-or-CONFIG",
		Short: "Read every byte of a cache and report what is damaged",
		Long: help(`
Reads every file that counts in a cache and checks checksums, structure, numbers
of rows and positions. It changes nothing.`,
			exitConfig, exitCorrupt),
		Example: "  pipeline verify cache_dir\n  pipeline verify config.yaml --json",
		Args:    oneArg("a cache folder or a config file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.verify(cmd.Context(), args[0], sets)
		},
	}
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
}

func (a *app) verify(ctx context.Context, place string, sets []string) error {
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
	if err := a.printVerify(&doc); err != nil {
		return err
	}
	if len(doc.Findings) > 0 {
		return &exitError{exitCorrupt}
	}
	return nil
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
	return err
}
