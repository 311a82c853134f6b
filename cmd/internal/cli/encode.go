package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/stage"
)

type encodeFlags struct {
	input, output, format string
	fields                []string
	text, force           bool
}

func (a *app) encodeCommand() *cobra.Command {
	var flags encodeFlags
	cmd := &cobra.Command{
		Use:   "encode OUT",
		Short: "Embed new objects with a trained head",
		Long: help(`
Reads objects, one a line, and writes their embeddings in the same order: what
the encoders and the trained head of the output folder OUT make of them. A line
is a JSON object with the fields that the encoders read, or a JSON string, which
is the field "text"; blank lines are passed over. With --text a line is the text
itself, blank or not.

The output is a JSON line {"embedding":[...]} an object, or with --format arrow
an Arrow IPC stream with the column embedding, fixed_size_list<float32>. Memory
does not grow with the number of objects.`, exitNoSpace),
		Example: "  echo '{\"text\":\"how do I reset it?\"}' | pipeline encode out\n" +
			"  pipeline encode out --input faq.jsonl --field text=question --format arrow --output faq.arrows",
		Args: oneArg("an output folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.format != "jsonl" && flags.format != "arrow" {
				return usagef("--format is jsonl or arrow, not %q", flags.format)
			}
			if a.json && flags.output == "" {
				return usagef("with --json the embeddings need a file: --output FILE")
			}
			rename, err := flags.rename()
			if err != nil {
				return err
			}
			return a.encode(cmd.Context(), args[0], flags, &objectReader{plain: flags.text, rename: rename})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&flags.input, "input", "i", "", "read `FILE` instead of the standard input")
	f.StringVarP(&flags.output, "output", "o", "", "write `FILE` instead of the standard output")
	f.StringVar(&flags.format, "format", "jsonl", "the `FORMAT` of the embeddings, jsonl or arrow")
	f.StringArrayVar(&flags.fields, "field", nil, "take a field from another one of the line: `FIELD=COLUMN`; may be repeated")
	f.BoolVar(&flags.text, "text", false, "lines are plain texts, not JSON")
	f.BoolVar(&flags.force, "force", false, "overwrite the file of --output")
	cmd.MarkFlagsMutuallyExclusive("text", "field")
	return cmd
}

func (f *encodeFlags) rename() (map[string]string, error) {
	out := map[string]string{}
	for _, arg := range f.fields {
		field, column, ok := strings.Cut(arg, "=")
		if !ok || field == "" || column == "" {
			return nil, usagef("--field takes FIELD=COLUMN, not %q", arg)
		}
		out[field] = column
	}
	return out, nil
}

func (a *app) encode(ctx context.Context, dir string, flags encodeFlags, in *objectReader) (err error) {
	m, err := pipeline.Load(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	in.name, in.r = "stdin", a.interruptible(ctx)
	if flags.input != "" {
		f, err := os.Open(flags.input)
		if err != nil {
			return err
		}
		defer f.Close()
		in.name, in.r = flags.input, f
	}
	start := time.Now()
	var rows int64
	err = a.writeTo(flags.output, flags.force, func(w io.Writer) (err error) {
		out := newVectorWriter(w, flags.format, m.Dim())
		rows, err = a.encodeAll(ctx, m, in, out)
		return errors.Join(err, out.close())
	})
	if err != nil || !a.json {
		return err
	}
	return a.printJSON(struct {
		SchemaVersion int     `json:"schema_version"`
		Rows          int64   `json:"rows"`
		Dim           int     `json:"dim"`
		Seconds       float64 `json:"seconds"`
		Output        string  `json:"output"`
		Format        string  `json:"format"`
	}{schemaVersion, rows, m.Dim(), time.Since(start).Seconds(), flags.output, flags.format})
}

// encodeAll streams objects through the model in chunks, on all cores.
func (a *app) encodeAll(ctx context.Context, m *pipeline.Model, in *objectReader, out vectorWriter) (rows int64, err error) {
	meter := a.newMeter()
	defer meter.done()
	g, _ := stage.NewGroup(ctx)
	chunks := stage.From(g, "read", func(context.Context) iter.Seq2[chunk, error] { return in.chunks })
	blocks := stage.OrderedMap(g, chunks, "encode", runtime.GOMAXPROCS(0), func(ctx context.Context, c chunk) (block, error) {
		vecs, err := m.Encode(ctx, c.objects)
		if err != nil {
			return block{}, c.locate(ctx, m, err)
		}
		return out.prepare(vecs)
	})
	stage.Each(g, blocks, "write", func(_ context.Context, b block) error {
		rows += int64(len(b.vecs))
		meter.report(event{Phase: "encode", Rows: rows})
		return out.write(b)
	})
	return rows, g.Wait()
}

// locate finds the line of the object that an error is about.
func (c *chunk) locate(ctx context.Context, m *pipeline.Model, err error) error {
	if !errors.Is(err, encode.ErrField) {
		return err
	}
	for i, o := range c.objects {
		if _, err := m.Encode(ctx, []encode.Object{o}); err != nil {
			return fmt.Errorf("%s:%d: %w", c.name, c.lines[i], err)
		}
	}
	return err
}

// interruptible is the standard input, whose reading ends with ctx: a read
// of a terminal cannot be ended otherwise.
func (a *app) interruptible(ctx context.Context) io.Reader {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, a.stdin)
		w.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	return r
}
