package cli

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/cachesink"
)

type inspectFlags struct {
	sets   []string
	files  bool
	schema bool
	prints bool
	rows   int
	split  string

	key, encoder string
	hasKey       bool // an empty key may be looked up, too
	values       int
}

func (a *app) inspectCommand() *cobra.Command {
	var flags inspectFlags
	cmd := &cobra.Command{
		Use:   "inspect DIR-or-CONFIG",
		Short: "Show what a cache holds",
		Long: help(`
Shows the generation, encoders and splits of a cache from its manifest alone.
--files prints the names of the data files that count, one a line, without their
checksums: what else lies in the folders does not. --schema prints the columns
of each folder with their Arrow types. --fingerprints prints the fields behind
the fingerprint of each encoder, and the facts of the sources that gave a split
its rows. --rows N prints the first rows of a split, with the lengths
of their embeddings in place of the embeddings.

--key KEY finds the objects that a key extractor called KEY, in the newest split
of each name, and prints their rows with the length and the first values of
their embeddings: at most 100 of them, or N with --rows N. A key that is nowhere
ends with exit code 1.`,
			exitConfig, exitCorrupt),
		Example: "  pipeline inspect cache_dir\n  pipeline inspect config.yaml --rows 5 --split train\n" +
			"  pipeline inspect cache_dir --files | grep ^encoders/\n" +
			"  pipeline inspect cache_dir --key faq-17 --split train --encoder content_encoder --json",
		Args: oneArg("a cache folder or a config file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("rows") && flags.rows < 1 {
				return usagef("--rows takes a number from 1, not %d", flags.rows)
			}
			flags.hasKey = cmd.Flags().Changed("key")
			if flags.split != "" && flags.rows == 0 && !flags.hasKey {
				return usagef("--split says of which split --rows or --key are, and neither is given")
			}
			if !flags.hasKey && (flags.encoder != "" || cmd.Flags().Changed("values")) {
				return usagef("--encoder and --values are for --key, which is not given")
			}
			if flags.values < 0 {
				return usagef("--values takes a number from 0, not %d", flags.values)
			}
			return a.inspect(cmd.Context(), args[0], flags)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&flags.sets, "set", nil, "override a value of the config, such as `a.b=c`; may be repeated")
	f.BoolVar(&flags.files, "files", false, "print the names of the files that count")
	f.BoolVar(&flags.schema, "schema", false, "print the columns of the files, with their Arrow types")
	f.BoolVar(&flags.prints, "fingerprints", false, "print the fingerprints, with all that is behind them")
	f.IntVar(&flags.rows, "rows", 0, "print the first `N` rows of a split")
	f.StringVar(&flags.split, "split", "", "the `SPLIT` of --rows or --key: its name or folder (default: the first; for --key all)")
	f.StringVar(&flags.key, "key", "", "find what has this `KEY`")
	f.StringVar(&flags.encoder, "encoder", "", "look only at the keys of `ENCODER` (default: all)")
	f.IntVar(&flags.values, "values", 8, "with --key, print the first `N` values of an embedding")
	cmd.MarkFlagsMutuallyExclusive("files", "schema", "fingerprints", "rows")
	cmd.MarkFlagsMutuallyExclusive("files", "schema", "fingerprints", "key")
	return cmd
}

// inspectDoc is what inspect --json prints.
type inspectDoc struct {
	SchemaVersion int              `json:"schema_version"`
	Dir           string           `json:"dir"`
	Format        int              `json:"format"`
	Generation    int64            `json:"generation"`
	Bytes         int64            `json:"bytes"`
	Encoders      []inspectEncoder `json:"encoders"`
	Splits        []inspectSplit   `json:"splits"`
	Files         []string         `json:"files,omitempty"`
	Schemas       []folderSchema   `json:"schemas,omitempty"`
	Rows          *splitRows       `json:"rows,omitempty"`
	Lookup        *lookup          `json:"lookup,omitempty"`
}

type inspectEncoder struct {
	Name        string            `json:"name"`
	Fingerprint string            `json:"fingerprint"`
	Folder      string            `json:"folder"`
	Dim         int               `json:"dim"`
	DType       cachesink.DType   `json:"dtype"`
	Spec        map[string]string `json:"spec"`
	// Compression lists those of the shards, sorted: new ones may differ.
	Compression []cachesink.Compression `json:"compression"`
	Shards      int                     `json:"shards"`
	Rows        int64                   `json:"rows"`
	Bytes       int64                   `json:"bytes"`
}

type inspectSplit struct {
	Name        string                   `json:"name"`
	Fingerprint string                   `json:"fingerprint"`
	Folder      string                   `json:"folder"`
	Kind        cachesink.Kind           `json:"kind"`
	Rows        int64                    `json:"rows"`
	Files       int                      `json:"files"`
	Bytes       int64                    `json:"bytes"`
	Encoders    []cachesink.SplitEncoder `json:"encoders"`
	// Sources are the facts of the sources that gave its rows.
	Sources []map[string]string `json:"sources"`
}

func newInspectDoc(ctx context.Context, c *cachesink.Cache) (*inspectDoc, error) {
	notes, err := c.Notes(ctx)
	if err != nil {
		return nil, err
	}
	m := c.Manifest()
	d := &inspectDoc{
		SchemaVersion: schemaVersion, Dir: c.Storage().String(), Format: m.Format, Generation: m.Generation, Bytes: m.Bytes(),
		Encoders: []inspectEncoder{}, Splits: []inspectSplit{},
	}
	for _, e := range m.Encoders {
		ie := inspectEncoder{
			Name: e.Name, Fingerprint: e.Fingerprint, Folder: e.Folder, Dim: e.Dim, DType: e.DType,
			Spec: e.Spec, Shards: len(e.Shards), Rows: e.Rows(),
		}
		ie.Compression = []cachesink.Compression{}
		for _, s := range e.Shards {
			ie.Bytes += s.Bytes
			ie.Compression = append(ie.Compression, s.Compression())
		}
		slices.Sort(ie.Compression)
		ie.Compression = slices.Compact(ie.Compression)
		d.Encoders = append(d.Encoders, ie)
	}
	for _, s := range m.Splits {
		sources := []map[string]string{}
		for _, n := range notes {
			if n.Split == s.Name && n.Fingerprint == s.Fingerprint {
				sources = append(sources, n.Facts)
			}
		}
		d.Splits = append(d.Splits, inspectSplit{
			Name: s.Name, Fingerprint: s.Fingerprint, Folder: s.Folder, Kind: s.Kind, Rows: s.Rows,
			Files: len(s.Files) + len(s.Inputs), Bytes: s.Bytes(), Encoders: s.Encoders,
			Sources: sources,
		})
	}
	return d, nil
}

func (a *app) inspect(ctx context.Context, place string, flags inspectFlags) error {
	c, err := openCache(ctx, place, flags.sets)
	if err != nil {
		return err
	}
	doc, err := newInspectDoc(ctx, c)
	if err != nil {
		return err
	}
	if flags.files {
		doc.Files = c.Manifest().Files()
	}
	if flags.schema {
		if doc.Schemas, err = schemas(ctx, c); err != nil {
			return err
		}
	}
	if flags.hasKey {
		if doc.Lookup, err = lookUp(ctx, c, flags); err != nil {
			return err
		}
	} else if flags.rows > 0 {
		s, err := findSplit(c.Manifest(), flags.split)
		if err != nil {
			return err
		}
		if doc.Rows, err = readRows(ctx, c, s, flags.rows); err != nil {
			return err
		}
	}
	switch {
	case a.json:
		return a.printJSON(doc)
	case flags.files:
		for _, name := range doc.Files {
			if _, err := fmt.Fprintln(a.stdout, name); err != nil {
				return err
			}
		}
		return nil
	case flags.prints:
		return a.printFingerprints(doc)
	case flags.schema:
		return a.printSchemas(doc.Schemas)
	case flags.hasKey:
		return a.printLookup(doc.Lookup)
	case flags.rows > 0:
		return table(a.stdout, doc.Rows.table())
	}
	return a.printInspect(doc)
}

func (a *app) printInspect(d *inspectDoc) error {
	fmt.Fprintf(a.stdout, "%s: format %d, generation %d, %s\n\n", d.Dir, d.Format, d.Generation, size(d.Bytes))
	rows := [][]string{{"encoder", "dim", "stored as", "objects", "shards", "size", "folder"}}
	for _, e := range d.Encoders {
		rows = append(rows, []string{e.Name, fmt.Sprint(e.Dim), e.storedAs(), count(e.Rows), count(int64(e.Shards)), size(e.Bytes), e.Folder})
	}
	if err := table(a.stdout, rows); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	rows = [][]string{{"split", "kind", "rows", "files", "size", "folder", "encoders"}}
	for _, s := range d.Splits {
		var used []string
		for _, e := range s.Encoders {
			if e.Folder == "" {
				used = append(used, fmt.Sprintf("%s (not cached, reads %s)", e.Name, e.Input))
				continue
			}
			used = append(used, fmt.Sprintf("%s (%s objects, reads %s)", path.Base(e.Folder), count(e.Objects), e.Input))
		}
		rows = append(rows, []string{s.Name, string(s.Kind), count(s.Rows), count(int64(s.Files)), size(s.Bytes), s.Folder, strings.Join(used, ", ")})
	}
	return table(a.stdout, rows)
}

// printFingerprints prints what decides the embeddings and the rows.
func (a *app) printFingerprints(d *inspectDoc) error {
	var rows [][]string
	add := func(what, name, fingerprint string, fields map[string]string) {
		rows = append(rows, []string{what, name, fingerprint})
		for _, k := range slices.Sorted(maps.Keys(fields)) {
			rows = append(rows, []string{"", k, fields[k]})
		}
	}
	for _, e := range d.Encoders {
		add("encoder", e.Name, e.Fingerprint, e.Spec)
	}
	for _, s := range d.Splits {
		add("split", s.Name, s.Fingerprint, nil)
		for _, facts := range s.Sources {
			add("source", s.Name, facts["source"], facts)
		}
	}
	return table(a.stdout, rows)
}

// storedAs is the dtype with the compressions.
func (e *inspectEncoder) storedAs() string {
	s := string(e.DType)
	if len(e.Compression) == 1 && e.Compression[0] == cachesink.Uncompressed {
		return s
	}
	for _, c := range e.Compression {
		s += " " + string(c)
	}
	return s
}

// findSplit returns the split of a name, the newest of several, or of a
// folder; the first one for no name.
func findSplit(m *cachesink.Manifest, name string) (*cachesink.Split, error) {
	var found *cachesink.Split
	var names []string
	for i := range m.Splits {
		s := &m.Splits[i]
		names = append(names, s.Name)
		if name == "" || s.Folder == name || path.Base(s.Folder) == name {
			return s, nil
		}
		if s.Name == name {
			found = s // later ones are newer
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: split %q, there are %q", cachesink.ErrMissing, name, names)
	}
	return found, nil
}
