package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const (
	cardName = "README.md"
	dataDir  = "data"
	// cardMark is by which a folder is known to be ours.
	cardMark = "<!-- permafrost.export 1 -->"
	maxCard  = 1 << 20
	// folderFile is about the bytes of embeddings in a file of a folder.
	folderFile = 512 << 20
)

// folder writes a folder as load_dataset of Hugging Face datasets reads it:
// data/<split>-<i>-of-<n>.parquet, and a card that says which files a split
// has. Splits of the same columns are one configuration, "default"; else every
// split is one of its own name.
func (p *plan) folder(ctx context.Context, dir string, force bool) (*Result, error) {
	res := &Result{}
	err := placeFolder(dir, force, ours, func(tmp string) error {
		if err := os.Mkdir(filepath.Join(tmp, dataDir), 0o755); err != nil {
			return err
		}
		var schemas []*arrow.Schema
		err := p.tables(func(open *opener) error {
			for _, of := range p.parts {
				s, err := p.folderPart(ctx, open, of, tmp, dir, res)
				if err != nil {
					return err
				}
				schemas = append(schemas, s)
			}
			return nil
		})
		if err != nil {
			return err
		}
		card := p.card(schemas)
		if err := os.WriteFile(filepath.Join(tmp, cardName), card, 0o644); err != nil {
			return err
		}
		res.add(Written{Path: filepath.Join(dir, cardName), Bytes: int64(len(card))})
		return store.SyncDir(filepath.Join(tmp, dataDir))
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func (r *Result) add(w Written) {
	r.Files = append(r.Files, w)
	r.Rows += w.Rows
	r.Bytes += w.Bytes
}

// folderPart writes the files of a split.
func (p *plan) folderPart(ctx context.Context, open *opener, of part, tmp, dir string, res *Result) (*arrow.Schema, error) {
	t, err := open.table(ctx, of)
	if err != nil {
		return nil, err
	}
	defer t.release()
	perFile := p.opts.FileRows
	if perFile == 0 {
		perFile = max(folderFile/t.rowBytes(), 1)
	}
	files := (t.rows + perFile - 1) / perFile
	for i := range files {
		name := path.Join(dataDir, fmt.Sprintf("%s-%05d-of-%05d.parquet", of.name(), i, files))
		f, err := os.Create(filepath.Join(tmp, name))
		if err != nil {
			return nil, err
		}
		w, err := p.write(ctx, t, span{i * perFile, min((i+1)*perFile, t.rows)}, f)
		if err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		w.Path = filepath.Join(dir, name)
		res.add(w)
	}
	if t.split == nil {
		return nil, nil
	}
	return t.split.Schema(), nil
}

// card is the folder's README.md. Its head is what load_dataset reads.
func (p *plan) card(schemas []*arrow.Schema) []byte {
	alike := true
	for _, s := range schemas[1:] {
		alike = alike && s.Equal(schemas[0])
	}
	var b bytes.Buffer
	b.WriteString("---\nconfigs:\n")
	for i, of := range p.parts {
		if i == 0 || !alike {
			name := "default"
			if !alike {
				name = of.name()
			}
			fmt.Fprintf(&b, "- config_name: %q\n  data_files:\n", name)
		}
		fmt.Fprintf(&b, "  - split: %q\n    path: %s/%s-*-of-*.parquet\n", of.name(), dataDir, of.name())
	}
	b.WriteString("---\n" + cardMark + "\n\n# Embeddings\n\nExported from a Permafrost cache.\n\n| what | rows | fingerprint |\n|---|---|---|\n")
	seen := map[string]bool{}
	for _, of := range p.parts {
		if of.split == nil {
			fmt.Fprintf(&b, "| objects of encoder %s | %d | `%s` |\n", of.name(), of.rows(), of.encoder.Fingerprint)
			continue
		}
		fmt.Fprintf(&b, "| split %s | %d | `%s` |\n", of.name(), of.rows(), of.split.Fingerprint)
		for _, e := range of.split.Encoders {
			line := fmt.Sprintf("| encoder %s | | `%s` |\n", e.Name, e.Fingerprint)
			if (p.opts.Encoder == "" || e.Name == p.opts.Encoder) && !seen[line] {
				seen[line] = true
				b.WriteString(line)
			}
		}
	}
	return b.Bytes()
}

// ours reports an error unless a folder holds what an export writes, and
// nothing else: replacing it would lose that.
func ours(dir string, entries []fs.DirEntry) error {
	not := func(what string) error { return fmt.Errorf("%w: %s %s", ErrNotOurs, dir, what) }
	info, err := os.Stat(filepath.Join(dir, cardName))
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxCard {
		return not("has no card of an export")
	}
	card, err := os.ReadFile(filepath.Join(dir, cardName))
	if err != nil {
		return err
	}
	if !bytes.Contains(card, []byte("\n"+cardMark+"\n")) {
		return not("has no card of an export")
	}
	for _, e := range entries {
		if e.Name() != cardName && e.Name() != dataDir {
			return not("also holds " + e.Name())
		}
	}
	data, err := os.ReadDir(filepath.Join(dir, dataDir))
	if err != nil {
		return not("has no folder " + dataDir)
	}
	for _, e := range data {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".parquet") {
			return not("also holds " + path.Join(dataDir, e.Name()))
		}
	}
	return nil
}
