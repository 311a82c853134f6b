// Package export copies what a cache holds to files of other formats: the
// rows of a split with the embeddings of their objects, or the distinct
// objects of an encoder.
//
//	res, err := export.File(ctx, cache, export.Options{Format: export.Parquet, Splits: splits}, "train.parquet", false)
//
// A row has the split's columns (row; label, or score and subgroup; those that
// were kept) and for every encoder E, for pairs on either side (E_a, E_b), the
// object's key E_key, its id E_id and its embedding E as float32, however the
// cache stores it. An encoder that is not cached has no embeddings: its keys
// and ids are exported. A row of an encoder's objects is the id and the
// embedding.
//
// Ids are 32 bytes, and in JSON lines and in data set folders 64 hexadecimal
// digits. The metadata of Arrow schemas, of Parquet and of safetensors files
// name the split (permafrost.split, permafrost.split_fingerprint) and the
// fingerprint of every encoder (permafrost.fingerprint.E).
//
// A split's columns and the embeddings of its encoders are held in memory, as
// for a replay; objects are streamed. Beyond that an export holds a few batches.
//
// # Trained heads
//
// [HeadONNX] writes a trained head as an ONNX model, [JoinedONNX] behind the
// graph of its encoder, and [SentenceTransformers] as modules behind a model
// directory, which SentenceTransformer loads. All give the embeddings of the
// head within 1e-5.
package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/cachesink"
)

// Format is what is written.
type Format string

// The formats.
const (
	Parquet     Format = "parquet"     // a file of one split, embeddings as list<float>
	NPY         Format = "npy"         // the embeddings of one encoder and side: a NumPy array float32[rows, dim]
	Safetensors Format = "safetensors" // a tensor F32[rows, dim] for every encoder and side
	JSONL       Format = "jsonl"       // a JSON object a row
	Arrow       Format = "arrow"       // an Arrow IPC stream
	HF          Format = "hf"          // a folder for load_dataset of Hugging Face datasets: Parquet files and a card
)

// Formats returns all formats.
func Formats() []Format { return []Format{Parquet, NPY, Safetensors, JSONL, Arrow, HF} }

var (
	// ErrOptions is returned for options that do not fit each other or the
	// cache.
	ErrOptions = errors.New("cannot export that")
	// ErrExists is returned instead of overwriting something.
	ErrExists = errors.New("the destination exists")
	// ErrNotOurs is returned instead of replacing a folder that no export has
	// made.
	ErrNotOurs = errors.New("the folder was not made by an export")
)

// Options say what is exported and how.
type Options struct {
	Format Format
	// Splits are what is exported: one, or for HF any number of different
	// names. Default: the distinct objects of Encoder.
	Splits []*cachesink.Split
	// Encoder leaves out all encoders but that one, by name; without Splits
	// it may be a folder of the manifest. Default: all of the splits.
	Encoder string
	// Side leaves out the other side of pairs: "a" or "b". Default: both.
	Side string
	// BatchRows is the number of rows read at a time, in a row group of
	// Parquet and in a record batch of Arrow. Default: as many as make about
	// 16 MiB, at most 65,536.
	BatchRows int
	// Epoch exports a split in the batches of an epoch of training, as
	// JSONL, Arrow or Parquet. BatchRows is then the batch size, by default
	// 256. Default: the rows in the order of the dataset.
	Epoch *Epoch
	// FileRows is the number of rows in a file of a folder. Default: as many as
	// make about 512 MiB.
	FileRows int64
	// OnProgress is called now and then with the rows done, of a total.
	// Default: none.
	OnProgress func(rows, total int64)
}

// Result says what an export wrote.
type Result struct {
	Rows  int64     `json:"rows"`
	Bytes int64     `json:"bytes"`
	Files []Written `json:"files"`
}

// Written is a file that an export wrote.
type Written struct {
	Path  string `json:"path"` // as the destination was given; empty for a stream
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"`
}

// Stream writes a format that is one file to w, which is not closed. What it
// wrote before an error is worth nothing.
func Stream(ctx context.Context, c *cachesink.Cache, opts Options, w io.Writer) (*Result, error) {
	p, err := newPlan(c, opts)
	if err != nil {
		return nil, err
	}
	if opts.Format == HF {
		return nil, fmt.Errorf("%w: %s is a folder, not a stream", ErrOptions, HF)
	}
	var done Written
	err = p.tables(func(open *opener) error {
		t, err := open.table(ctx, p.parts[0])
		if err != nil {
			return err
		}
		defer t.release()
		done, err = p.write(ctx, t, span{0, t.rows}, w)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Result{Rows: done.Rows, Bytes: done.Bytes, Files: []Written{done}}, nil
}

// File writes a file or, for HF, a folder. It takes its name when it is whole,
// so that a failed or cancelled export leaves nothing under it, and what was
// there as it was. Something that is there is ErrExists without force; a
// folder that is not empty and that no export has made is ErrNotOurs in any
// case.
func File(ctx context.Context, c *cachesink.Cache, opts Options, path string, force bool) (*Result, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: no destination", ErrOptions)
	}
	if opts.Format == HF {
		p, err := newPlan(c, opts)
		if err != nil {
			return nil, err
		}
		return p.folder(ctx, path, force)
	}
	var res *Result
	err := placeFile(path, force, func(f *os.File) (err error) {
		res, err = Stream(ctx, c, opts, f)
		return err
	})
	if err != nil {
		return nil, err
	}
	res.Files[0].Path = path
	return res, nil
}

// plan is a checked export.
type plan struct {
	c     *cachesink.Cache
	opts  Options
	parts []part
	done  int64
	total int64
}

// part is a split, or an encoder whose objects are exported.
type part struct {
	split   *cachesink.Split
	encoder *cachesink.Encoder
}

func (p part) name() string {
	if p.split != nil {
		return p.split.Name
	}
	return p.encoder.Name
}

func (p part) rows() int64 {
	if p.split != nil {
		return p.split.Rows
	}
	return p.encoder.Rows()
}

func newPlan(c *cachesink.Cache, opts Options) (*plan, error) {
	bad := func(format string, args ...any) (*plan, error) {
		return nil, fmt.Errorf("%w: %s", ErrOptions, fmt.Sprintf(format, args...))
	}
	p := &plan{c: c, opts: opts}
	if !slices.Contains(Formats(), opts.Format) {
		return bad("there is no format %q, but %q", opts.Format, Formats())
	}
	if opts.BatchRows < 0 || opts.FileRows < 0 {
		return bad("batches of %d rows, files of %d", opts.BatchRows, opts.FileRows)
	}
	if opts.Epoch != nil && (len(opts.Splits) != 1 || !slices.Contains([]Format{JSONL, Arrow, Parquet}, opts.Format)) {
		return bad("an epoch is of one split, as %s, %s or %s", JSONL, Arrow, Parquet)
	}
	if len(opts.Splits) == 0 {
		if opts.Encoder == "" {
			return bad("neither splits nor an encoder are named")
		}
		if opts.Side != "" {
			return bad("distinct objects have no sides")
		}
		e, err := findEncoder(c.Manifest(), opts.Encoder)
		if err != nil {
			return nil, err
		}
		p.parts = []part{{encoder: e}}
	}
	if len(opts.Splits) > 1 && opts.Format != HF {
		return bad("%d splits do not fit into one file of %s", len(opts.Splits), opts.Format)
	}
	names := map[string]bool{}
	for _, s := range opts.Splits {
		if names[s.Name] {
			return bad("two splits are named %q", s.Name)
		}
		names[s.Name] = true
		if opts.Side != "" && !slices.Contains(s.Kind.Sides(), opts.Side) {
			return bad("split %q has no side %q", s.Name, opts.Side)
		}
		if opts.Encoder != "" && !slices.ContainsFunc(s.Encoders, func(e cachesink.SplitEncoder) bool { return e.Name == opts.Encoder }) {
			return nil, fmt.Errorf("%w: split %q has no encoder %q, but %q", cachesink.ErrMissing, s.Name, opts.Encoder, encoderNames(s))
		}
		p.parts = append(p.parts, part{split: s})
	}
	for _, t := range p.parts {
		if t.rows() == 0 {
			return bad("%q has no rows", t.name())
		}
		p.total += t.rows()
	}
	return p, nil
}

func encoderNames(s *cachesink.Split) (names []string) {
	for _, e := range s.Encoders {
		names = append(names, e.Name)
	}
	return names
}

// findEncoder returns the encoder of a name or folder.
func findEncoder(m *cachesink.Manifest, name string) (*cachesink.Encoder, error) {
	var found *cachesink.Encoder
	var folders []string
	for i := range m.Encoders {
		e := &m.Encoders[i]
		if e.Folder == name || strings.TrimPrefix(e.Folder, "encoders/") == name {
			return e, nil
		}
		if e.Name == name {
			found = e
			folders = append(folders, e.Folder)
		}
	}
	if len(folders) > 1 {
		return nil, fmt.Errorf("%w: %q is the name of %d encoders: name a folder of %q", ErrOptions, name, len(folders), folders)
	}
	if found == nil {
		all := make([]string, len(m.Encoders))
		for i := range m.Encoders {
			all[i] = m.Encoders[i].Folder
		}
		return nil, fmt.Errorf("%w: encoder %q, there are %q", cachesink.ErrMissing, name, all)
	}
	return found, nil
}

// progress counts rows as done.
func (p *plan) progress(rows int64) {
	p.done += rows
	if p.opts.OnProgress != nil {
		p.opts.OnProgress(p.done, p.total)
	}
}
