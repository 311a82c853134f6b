package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/source"
)

// godoc is the DATA that stands for the documentation of the Go toolchain.
const godoc = "godoc"

// dataset is what init found: the files of each split.
type dataset struct {
	godoc  bool
	splits map[string]files
}

// files are those of one split, of one format.
type files struct {
	format string   // jsonl, csv, parquet, arrow or images
	paths  []string // as they are read here
	names  []string // as the config is to name them
}

// findData looks for the files of DATA. output is the config to be written,
// empty for the standard output: paths are relative to its folder.
func findData(data, output string) (*dataset, error) {
	if data == godoc {
		if _, err := os.Lstat(data); err != nil {
			return &dataset{godoc: true, splits: map[string]files{"train": {}, "val": {}}}, nil
		}
	}
	info, err := os.Stat(data)
	if err != nil {
		return nil, err
	}
	d := &dataset{splits: map[string]files{}}
	if !info.IsDir() {
		if formatOf(data) == "" {
			return nil, fmt.Errorf("%s: want .jsonl, .ndjson, .csv or .tsv, or these with .gz or .zst, or .parquet, .arrow, .feather or .ipc", data)
		}
		return d, d.add("train", data, output)
	}
	entries, err := os.ReadDir(data)
	if err != nil {
		return nil, err
	}
	var others []string
	for _, e := range entries {
		path := filepath.Join(data, e.Name())
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || formatOf(path) == "" {
			continue
		}
		if split := splitOf(e.Name()); split == "" {
			others = append(others, path)
		} else if err := d.add(split, path, output); err != nil {
			return nil, err
		}
	}
	if _, ok := d.splits["train"]; !ok {
		for _, path := range others { // what no name assigns is to train on
			if err := d.add("train", path, output); err != nil {
				return nil, err
			}
		}
	}
	if len(d.splits) == 0 {
		if err := d.findImages(data, entries, output); err != nil {
			return nil, err
		}
	}
	if len(d.splits) == 0 {
		return nil, fmt.Errorf("%s holds no .jsonl, .csv, .parquet or .arrow file, and no folder of images", data)
	}
	return d, nil
}

// images reports whether the dataset is of images.
func (d *dataset) images() bool {
	for _, f := range d.splits {
		return f.format == "images"
	}
	return false
}

// findImages takes a folder of images: one whose folders are splits of folders
// of images, or are labels themselves.
func (d *dataset) findImages(data string, entries []os.DirEntry, output string) error {
	labels := false
	for _, e := range entries {
		path := filepath.Join(data, e.Name())
		if !e.IsDir() || !hasImages(path) {
			continue
		}
		split := splitOf(e.Name())
		if split == "" {
			labels = true
			continue
		}
		if _, ok := d.splits[split]; ok {
			return fmt.Errorf("%s: the split %q has two folders of images", path, split)
		}
		if err := d.addAs("images", split, path, output); err != nil {
			return err
		}
	}
	if labels && len(d.splits) == 0 {
		return d.addAs("images", "train", data, output)
	}
	return nil
}

// hasImages reports whether there is an image in or below a folder.
func hasImages(dir string) bool {
	found := false
	_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && source.IsImage(path) {
			found = true
			return filepath.SkipAll
		}
		return nil // what cannot be read is not there for init
	})
	return found
}

func (d *dataset) add(split, path, output string) error {
	return d.addAs(formatOf(path), split, path, output)
}

func (d *dataset) addAs(format, split, path, output string) error {
	f := d.splits[split]
	if f.format != "" && f.format != format {
		return fmt.Errorf("%s: the split %q has files of two formats", path, split)
	}
	f.format = format
	f.paths = append(f.paths, path)
	name := path
	if output != "" {
		abs, err := filepath.Abs(path)
		dir, err2 := filepath.Abs(filepath.Dir(output))
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if name, err = filepath.Rel(dir, abs); err != nil {
			name = abs // on another volume
		}
	}
	f.names = append(f.names, filepath.ToSlash(name))
	d.splits[split] = f
	return nil
}

// formatOf returns the config's name of a file's format, empty for none.
func formatOf(path string) string {
	name := strings.ToLower(filepath.Base(path))
	switch filepath.Ext(name) {
	case ".parquet", ".pq":
		return "parquet"
	case ".arrow", ".arrows", ".feather", ".ipc":
		return "arrow"
	}
	for _, ext := range []string{".gz", ".zst"} {
		name = strings.TrimSuffix(name, ext)
	}
	switch filepath.Ext(name) {
	case ".jsonl", ".ndjson":
		return "jsonl"
	case ".csv", ".tsv":
		return "csv"
	}
	return ""
}

// splitOf returns the split that a file's name tells of, empty for none.
func splitOf(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return strings.ContainsRune("._- ", r) })
	for _, w := range words {
		switch w {
		case "train", "training":
			return "train"
		case "val", "valid", "validation", "dev", "eval":
			return "val"
		case "test":
			return "test"
		}
	}
	return ""
}

// column is what the first rows tell of a column.
type column struct {
	Name     string `json:"name"`
	Type     string `json:"type"`     // text, integer, number, bool, bytes, nested or empty
	Distinct int    `json:"distinct"` // values in the first rows
	Rows     int    `json:"rows"`     // rows that have it
	length   int    // of all texts together
}

// lookRows is the number of rows that init looks at.
const lookRows = 100

// columns reads the first rows of the split to train on.
func (d *dataset) columns(ctx context.Context) ([]column, error) {
	name := "train"
	if _, ok := d.splits[name]; !ok {
		name = slices.Min(slices.Collect(maps.Keys(d.splits)))
	}
	f := d.splits[name]
	rows := d.rows(ctx, f)
	byName := map[string]*column{}
	values := map[string]map[string]bool{}
	n := 0
	for row, err := range rows {
		if err != nil {
			return nil, err
		}
		for name, v := range row.Value {
			if name == "" {
				continue // a config cannot name it
			}
			c := byName[name]
			if c == nil {
				c = &column{Name: name}
				byName[name], values[name] = c, map[string]bool{}
			}
			c.see(v, values[name])
		}
		if n++; n == lookRows {
			break
		}
	}
	if n == 0 {
		return nil, fmt.Errorf("the split %q has no rows", name)
	}
	var cols []column
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		cols = append(cols, *byName[name])
	}
	return cols, nil
}

// rows reads the rows of files.
func (d *dataset) rows(ctx context.Context, f files) iter.Seq2[source.Row[source.Fields], error] {
	switch {
	case d.godoc:
		return source.Godoc[source.Fields]("", source.GodocOptions{Split: "train"}).Rows(ctx)
	case f.format == "csv":
		return source.CSV[source.Fields](f.paths...).Rows(ctx)
	case f.format == "parquet":
		return source.Parquet[source.Fields](f.paths...).Rows(ctx)
	case f.format == "arrow":
		return source.Arrow[source.Fields](f.paths...).Rows(ctx)
	case f.format == "images":
		return source.Images[source.Fields](f.paths[0]).Rows(ctx)
	default:
		return source.JSONL[source.Fields](f.paths...).Rows(ctx)
	}
}

func (c *column) see(v any, seen map[string]bool) {
	if v == nil {
		return
	}
	typ := "nested"
	switch v.(type) {
	case string:
		typ = "text"
	case int64:
		typ = "integer"
	case float64:
		typ = "number"
	case bool:
		typ = "bool"
	case []byte:
		typ = "bytes"
	}
	b, ok := v.([]byte)
	text := string(b)
	if !ok {
		text = fmt.Sprint(v)
	}
	c.Rows++
	c.length += len(text)
	if !seen[text] {
		seen[text] = true
		c.Distinct++
	}
	switch {
	case c.Type == "" || c.Type == "integer" && typ == "number":
		c.Type = typ
	case c.Type == "number" && typ == "integer" || c.Type == typ:
	default:
		c.Type = "text" // mixed: only their text forms have a type in common
	}
}

func find(cols []column, name string) *column {
	for i := range cols {
		if cols[i].Name == name {
			return &cols[i]
		}
	}
	return nil
}

func names(cols []column) string {
	var out []string
	for _, c := range cols {
		out = append(out, fmt.Sprintf("%q", c.Name))
	}
	return strings.Join(out, ", ")
}
