package cli

import (
	"context"
	"path"

	"github.com/permafrost-ml/permafrost/cachesink"
)

// folderSchema is what the files of a folder have in common.
type folderSchema struct {
	Folder  string         `json:"folder"`
	Columns []schemaColumn `json:"columns"`
}

type schemaColumn struct {
	Name string `json:"name"`
	Type string `json:"type"` // as Arrow writes it
}

// schemas reads the schema of one file of each folder.
func schemas(ctx context.Context, c *cachesink.Cache) ([]folderSchema, error) {
	m := c.Manifest()
	var first []cachesink.File
	for _, s := range m.Splits {
		for _, files := range [][]cachesink.File{s.Files, s.Inputs} {
			if len(files) > 0 {
				first = append(first, files[0])
			}
		}
	}
	for _, e := range m.Encoders {
		if len(e.Shards) > 0 {
			first = append(first, e.Shards[0].File)
		}
	}
	out := []folderSchema{}
	for _, f := range first {
		schema, err := c.Schema(ctx, f)
		if err != nil {
			return nil, err
		}
		fs := folderSchema{Folder: path.Dir(f.Name)}
		for _, col := range schema.Fields() {
			fs.Columns = append(fs.Columns, schemaColumn{col.Name, col.Type.String()})
		}
		out = append(out, fs)
	}
	return out, nil
}

func (a *app) printSchemas(folders []folderSchema) error {
	rows := [][]string{{"folder", "column", "type"}}
	for _, f := range folders {
		folder := f.Folder
		for _, c := range f.Columns {
			rows = append(rows, []string{folder, c.Name, c.Type})
			folder = ""
		}
	}
	return table(a.stdout, rows)
}
