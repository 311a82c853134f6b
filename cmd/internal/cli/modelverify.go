package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/internal/models"
)

func (a *app) modelVerifyCommand(flags *modelFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [NAME...]",
		Short: "Read every byte of models and report what is damaged",
		Long: help(`
Reads every file of the models named, or of all, and compares size and SHA-256
with those that were written down when the model came. Files in a model's folder
that are not the model's are reported too, but are no damage. It changes nothing:
pipeline model pull, or import, of the same model again replaces damaged files.`, exitCorrupt),
		Example:           "  pipeline model verify\n  pipeline model verify all-MiniLM-L6-v2 --json",
		ValidArgsFunction: flags.completeModels,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.modelVerify(cmd.Context(), flags, args)
		},
	}
}

// modelVerifyDoc is what model verify --json prints.
type modelVerifyDoc struct {
	SchemaVersion int            `json:"schema_version"`
	Dir           string         `json:"dir"`
	Models        int64          `json:"models"`
	Files         int64          `json:"files"`
	Bytes         int64          `json:"bytes"`
	Seconds       float64        `json:"seconds"`
	MBPerSecond   float64        `json:"mb_per_second"`
	Findings      []modelFinding `json:"findings"` // damaged or missing files
	Extra         []modelFile    `json:"extra"`    // files that are not the model's
}

type modelFile struct {
	Model string `json:"model"`
	File  string `json:"file"`
}

type modelFinding struct {
	modelFile
	Error string `json:"error"`
}

func (a *app) modelVerify(ctx context.Context, flags *modelFlags, names []string) error {
	s, err := flags.store()
	if err != nil {
		return err
	}
	entries, err := s.List(ctx)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		named := map[string]bool{}
		for _, name := range names {
			full, err := s.Find(ctx, name)
			if err != nil {
				return err
			}
			named[full] = true
		}
		all := entries
		entries = nil
		for _, e := range all {
			if named[e.Name] {
				entries = append(entries, e)
			}
		}
	}
	doc := modelVerifyDoc{SchemaVersion: schemaVersion, Dir: s.Dir(), Findings: []modelFinding{}, Extra: []modelFile{}}
	if err := a.verifyModels(ctx, entries, &doc); err != nil {
		return err
	}
	if err := a.printModelVerify(&doc); err != nil {
		return err
	}
	if len(doc.Findings) > 0 {
		return &exitError{exitCorrupt}
	}
	return nil
}

func (a *app) verifyModels(ctx context.Context, entries []models.Entry, doc *modelVerifyDoc) error {
	start := time.Now()
	m := a.newMeter()
	defer m.done()
	total := int64(0)
	for _, e := range entries {
		total += e.Bytes()
	}
	for _, e := range entries {
		doc.Models++
		if e.Err != nil {
			doc.Findings = append(doc.Findings, modelFinding{modelFile{e.Name, models.ManifestName}, e.Err.Error()})
			continue
		}
		damaged, extra, err := models.Verify(ctx, &e.Model, func(n int64) {
			doc.Bytes += n
			m.report(event{Phase: "verify", Bytes: doc.Bytes, Total: total})
		})
		if err != nil {
			return err
		}
		doc.Files += int64(len(e.Files))
		for _, d := range damaged {
			doc.Findings = append(doc.Findings, modelFinding{modelFile{e.Name, d.Path}, d.Err.Error()})
		}
		for _, file := range extra {
			doc.Extra = append(doc.Extra, modelFile{e.Name, file})
		}
	}
	doc.Seconds = time.Since(start).Seconds()
	doc.MBPerSecond = rate(doc.Bytes, doc.Seconds) / 1e6
	return nil
}

func (a *app) printModelVerify(d *modelVerifyDoc) error {
	if a.json {
		return a.printJSON(d)
	}
	var err error
	for _, f := range d.Findings {
		_, e := fmt.Fprintf(a.stdout, "%s: %s: %s\n", f.Model, f.File, f.Error)
		err = errors.Join(err, e)
	}
	for _, f := range d.Extra {
		_, e := fmt.Fprintf(a.stdout, "%s: %s: is not the model's\n", f.Model, f.File)
		err = errors.Join(err, e)
	}
	what := "all are as they came"
	if bad := int64(len(d.Findings)); bad > 0 {
		what = fmt.Sprintf("%s damaged or missing", count(bad))
	}
	_, e := fmt.Fprintf(a.stdout, "%s: %s %s, %s %s, %s in %s (%.0f MB/s): %s\n", d.Dir, count(d.Models), plural(d.Models, "model", "models"),
		count(d.Files), plural(d.Files, "file", "files"), size(d.Bytes), span(d.Seconds), d.MBPerSecond, what)
	return errors.Join(err, e)
}
