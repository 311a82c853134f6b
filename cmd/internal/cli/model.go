package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/internal/models"
)

// modelFlags are the flags of all commands about models.
type modelFlags struct{ dir string }

func (f *modelFlags) store() (*models.Store, error) { return models.New(f.dir, nil) }

func (a *app) modelCommand() *cobra.Command {
	var flags modelFlags
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Get, list and verify encoder models",
		Long: help(`
Keeps encoder models as they are published, each in a folder of its own, and
knows where each is from and the SHA-256 of its files. An encoder of a config
names a model of the store by its name, or any folder by its path:

  encoders:
    content: {type: bert, model: sentence-transformers/all-MiniLM-L6-v2}

The store is the folder that --dir or $PERMAFROST_MODELS names, or else
permafrost/models in the user's cache folder.`),
		Example: "  pipeline model pull sentence-transformers/all-MiniLM-L6-v2\n  pipeline model list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&flags.dir, "dir", "", "the `FOLDER` of models (default: $PERMAFROST_MODELS, or permafrost/models in the user's cache folder)")
	cmd.AddCommand(
		a.modelImportCommand(&flags), a.modelPullCommand(&flags), a.modelListCommand(&flags),
		a.modelVerifyCommand(&flags), a.modelRemoveCommand(&flags),
	)
	return cmd
}

// completeModels completes the names of stored models.
func (f *modelFlags) completeModels(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, err := f.store()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	entries, err := s.List(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// modelDoc is a stored model, as model list, import and pull --json print it.
type modelDoc struct {
	Name         string        `json:"name"`
	Path         string        `json:"path"`
	Source       models.Source `json:"source"`
	License      string        `json:"license"`
	Digest       string        `json:"digest"`
	Files        int64         `json:"files"`
	Bytes        int64         `json:"bytes"`
	ModelType    string        `json:"model_type"`
	Architecture string        `json:"architecture"`
	Dim          int           `json:"dim"`
	MaxLength    int           `json:"max_length"`
	Formats      []string      `json:"formats"`
}

func newModelDoc(m *models.Model) modelDoc {
	return modelDoc{
		Name: m.Name, Path: m.Dir, Source: m.Source, License: m.License, Digest: m.Digest, Files: int64(len(m.Files)), Bytes: m.Bytes(),
		ModelType: m.Card.ModelType, Architecture: m.Card.Architecture, Dim: m.Card.Dim, MaxLength: m.Card.MaxLength,
		Formats: append([]string{}, m.Card.Formats...),
	}
}

func (a *app) modelListCommand(flags *modelFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the models",
		Long: help(`
Lists the models, what they are and where they are from, and the downloads that
were cut short. It reads no weights: pipeline model verify does.`),
		Example: "  pipeline model list\n  pipeline model list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.modelList(cmd.Context(), flags)
		},
	}
}

// modelListDoc is what model list --json prints.
type modelListDoc struct {
	SchemaVersion int            `json:"schema_version"`
	Dir           string         `json:"dir"`
	Models        []modelListRow `json:"models"`
	// Partial are downloads that were cut short.
	Partial []partialDoc `json:"partial"`
}

type modelListRow struct {
	modelDoc
	Error string `json:"error,omitempty"` // why the manifest cannot be read
}

type partialDoc struct {
	Name   string `json:"name"`
	Commit string `json:"commit"` // its first 12 digits
	Bytes  int64  `json:"bytes"`
}

func (a *app) modelList(ctx context.Context, flags *modelFlags) error {
	s, err := flags.store()
	if err != nil {
		return err
	}
	entries, err := s.List(ctx)
	if err != nil {
		return err
	}
	partials, err := s.Partials()
	if err != nil {
		return err
	}
	doc := modelListDoc{schemaVersion, s.Dir(), []modelListRow{}, []partialDoc{}}
	for _, e := range entries {
		row := modelListRow{modelDoc: newModelDoc(&e.Model)}
		if e.Err != nil {
			row.Name, row.Path, row.Error = e.Name, s.Path(e.Name), e.Err.Error()
		}
		doc.Models = append(doc.Models, row)
	}
	for _, p := range partials {
		doc.Partial = append(doc.Partial, partialDoc{p.Name, p.Commit, p.Bytes})
	}
	if a.json {
		return a.printJSON(doc)
	}
	return a.printModels(&doc)
}

func (a *app) printModels(d *modelListDoc) error {
	if len(d.Models)+len(d.Partial) == 0 {
		_, err := fmt.Fprintf(a.stdout, "no models in %s\n", d.Dir)
		return err
	}
	rows := [][]string{{"NAME", "TYPE", "DIM", "SIZE", "FORMATS", "LICENCE", "SOURCE"}}
	for _, m := range d.Models {
		if m.Error != "" {
			rows = append(rows, []string{m.Name, "damaged", "", "", "", "", ""})
			continue
		}
		dim := "?"
		if m.Dim > 0 {
			dim = fmt.Sprint(m.Dim)
		}
		rows = append(rows, []string{m.Name, orUnknown(m.ModelType), dim, size(m.Bytes), orUnknown(strings.Join(m.Formats, ",")), orUnknown(m.License), m.Source.String()})
	}
	for _, p := range d.Partial {
		rows = append(rows, []string{p.Name, "partial", "", size(p.Bytes), "", "", p.Name + "@" + p.Commit})
	}
	return table(a.stdout, rows)
}

func orUnknown(s string) string {
	if s == "" {
		return "?"
	}
	return s
}

func (a *app) modelRemoveCommand(flags *modelFlags) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Aliases: []string{"rm"},
		Short:   "Remove a model, or a download that was cut short",
		Long: help(`
Removes a model that pipeline model list shows, and what of it was downloaded in
part. A folder with files in it that are not the model's is left as it is, unless
--force is given.`, exitCorrupt, exitLocked),
		Example:           "  pipeline model remove sentence-transformers/all-MiniLM-L6-v2",
		Args:              oneArg("a model's name"),
		ValidArgsFunction: flags.completeModels,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.modelRemove(cmd.Context(), flags, args[0], force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove files that are not the model's too, and a model whose manifest is damaged")
	return cmd
}

func (a *app) modelRemove(ctx context.Context, flags *modelFlags, name string, force bool) error {
	s, err := flags.store()
	if err != nil {
		return err
	}
	full, err := s.FindPartial(ctx, name)
	if err != nil {
		return err
	}
	n, err := s.Remove(ctx, full, force)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			SchemaVersion int    `json:"schema_version"`
			Name          string `json:"name"`
			Bytes         int64  `json:"bytes"`
		}{schemaVersion, full, n})
	}
	_, err = fmt.Fprintf(a.stdout, "%s: removed, %s\n", full, size(n))
	return err
}
