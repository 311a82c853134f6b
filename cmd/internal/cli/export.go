package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline/export"
	"github.com/permafrost-ml/permafrost/sink/qdrant"
)

type exportFlags struct {
	sets   []string
	format string
	output string
	split  string
	force  bool
	epoch  export.Epoch

	to, distance, cursors string
	head, base            string
	export.Options
}

// epochFlags are those that export the batches of an epoch.
var epochFlags = []string{"epoch", "shuffle", "seed", "drop-last", "rank", "world-size", "first-batch"}

func (a *app) exportCommand() *cobra.Command {
	var flags exportFlags
	cmd := &cobra.Command{
		Use:   "export DIR-or-CONFIG",
		Short: "Write embeddings, or a trained head, for other programs",
		Long: help(`
Writes the rows of a split with the embeddings of their objects, or with
--encoder and without --split an encoder's distinct objects. Embeddings are
float32, however the cache stores them.

Formats: parquet and arrow (an IPC stream) have a row's columns, and for every
encoder the object's key, id and embedding; jsonl has the same as a JSON object
a row, ids in hexadecimal; npy has one encoder's embeddings as a NumPy array;
safetensors a tensor for every encoder and side; hf is a folder for
load_dataset of Hugging Face datasets, of all splits unless one is named.

--epoch, --shuffle and the flags after them export the batches of an epoch of
training, of --batch-rows rows, as arrow, jsonl or parquet: what `+"`pipeline serve`"+`
gives over a network, for a program at the other end of a pipe.

--to uploads points to the vector database Qdrant: a point for each distinct
object of one encoder (and, for pairs, one side), with the row's other columns as
payload. The collection is made, or must have vectors of that size and distance.
An upload that was cut goes on where it stopped, and one that is repeated changes
nothing. QDRANT_API_KEY is the server's key.

--head writes the trained head of an output folder OUT instead:
  onnx                   the head alone, from encoder_embedding to embedding
  joined-onnx            behind the graph of its encoder of the engine onnx, with
                         pooling and scaling; texts are tokenized as for it
  sentence-transformers  a directory for SentenceTransformer: the encoder's, with
                         the head as Dense (and LayerNorm) modules behind it. The
                         encoder's directory must still be the one of the training;
                         for one of another engine than bert --base names it.
Texts go in as the encoder reads them: a template of the config is not in it.

The result takes its name when it is whole. --force replaces what is there, but
never a folder that no export has made. Only a jsonl or arrow that goes to the
standard output, with --output -, can be left cut.`,
			exitConfig, exitCorrupt, exitNoSpace),
		Example: "  pipeline export cache_dir --split train --format parquet --output train.parquet\n" +
			"  pipeline export config.yaml --format hf --output dataset\n" +
			"  pipeline export cache_dir --encoder minilm --format npy --output minilm.npy\n" +
			"  pipeline export cache_dir --split train --format arrow --shuffle --seed 42 --epoch 3 --batch-rows 1024 --output - | python train.py\n" +
			"  pipeline export cache_dir --split train --encoder minilm --to qdrant://127.0.0.1:6333/articles\n" +
			"  pipeline export out --head sentence-transformers --output model",
		Args: oneArg("a cache folder, a config file or an output folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("head") {
				if err := checkHeadFlags(cmd, flags); err != nil {
					return err
				}
				return a.exportHead(cmd.Context(), args[0], flags)
			}
			if flags.to != "" {
				for _, name := range append([]string{"output", "format", "force"}, epochFlags...) {
					if cmd.Flags().Changed(name) {
						return usagef("--%s does not go with --to", name)
					}
				}
				return a.upload(cmd.Context(), args[0], flags)
			}
			if flags.base != "" {
				return usagef("--base goes with --head %s", headST)
			}
			if flags.output == "" {
				return usagef("--output says where to, a file, for hf a folder, or - for the standard output")
			}
			if flags.Format = export.Format(flags.format); flags.output == "-" {
				if flags.Format != export.JSONL && flags.Format != export.Arrow {
					return usagef("only jsonl and arrow go to the standard output, not %q", flags.format)
				}
				if a.json {
					return usagef("with --json the rows need a file: --output FILE")
				}
			}
			if cmd.Flags().Changed("batch-rows") && flags.BatchRows < 1 {
				return usagef("--batch-rows takes a number from 1, not %d", flags.BatchRows)
			}
			if slices.ContainsFunc(epochFlags, cmd.Flags().Changed) {
				flags.Epoch = &flags.epoch
			}
			return a.export(cmd.Context(), args[0], flags)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&flags.sets, "set", nil, "override a value of the config, such as `a.b=c`; may be repeated")
	f.StringVar(&flags.format, "format", string(export.Parquet), "the `FORMAT`: "+formats())
	f.StringVarP(&flags.output, "output", "o", "", "write this `PATH`; - is the standard output")
	f.StringVar(&flags.split, "split", "", "the `SPLIT` to export: its name or folder (default: the only one)")
	f.StringVar(&flags.Encoder, "encoder", "", "leave out all encoders but `NAME`")
	f.StringVar(&flags.Side, "side", "", "leave out all sides of pairs but this `SIDE`, a or b")
	f.IntVar(&flags.BatchRows, "batch-rows", 0, "rows read at a time, and in a row group or record batch, `N` (default: of about 16 MiB, for an epoch 256)")
	f.IntVar(&flags.epoch.Number, "epoch", 0, "export the batches of epoch `N`, from 0")
	f.BoolVar(&flags.epoch.Shuffle, "shuffle", false, "in the order of the seed and the epoch")
	f.Uint64Var(&flags.epoch.Seed, "seed", 0, "the `SEED` of the order, that of the config for the batches of its training")
	f.BoolVar(&flags.epoch.DropLast, "drop-last", false, "without a last batch that is smaller")
	f.IntVar(&flags.epoch.Rank, "rank", 0, "only the batches of rank `R`")
	f.IntVar(&flags.epoch.World, "world-size", 1, "of `W` ranks")
	f.Int64Var(&flags.epoch.FirstBatch, "first-batch", 0, "without the first `N` batches of all ranks")
	f.StringVar(&flags.to, "to", "", "upload to the collection of a server, `qdrant://HOST:PORT/COLLECTION`, or qdrants:// with TLS")
	f.StringVar(&flags.distance, "distance", "Cosine", "how a collection that is made compares vectors, a `NAME`: "+strings.Join(qdrant.Distances(), ", "))
	f.StringVar(&flags.cursors, "cursors", "", "a `FOLDER` for how far uploads have come (default: in the user's cache folder)")
	f.StringVar(&flags.head, "head", "", "write the trained head of an output folder in a `FORM`: "+strings.Join(headForms, ", "))
	f.StringVar(&flags.base, "base", "", "the model directory `DIR` below the head, for sentence-transformers (default: the encoder's)")
	f.BoolVar(&flags.force, "force", false, "replace what is there")
	return cmd
}

func formats() string {
	var names []string
	for _, f := range export.Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// exportDoc is what export --json prints.
type exportDoc struct {
	SchemaVersion int           `json:"schema_version"`
	Dir           string        `json:"dir"`
	Generation    int64         `json:"generation"`
	Format        export.Format `json:"format"`
	*export.Result
	Seconds float64 `json:"seconds"`
}

func (a *app) export(ctx context.Context, place string, flags exportFlags) error {
	c, err := openCache(ctx, place, flags.sets)
	if err != nil {
		return err
	}
	if flags.Splits, err = exportedSplits(c.Manifest(), flags); err != nil {
		return err
	}
	start := time.Now()
	m := a.newMeter()
	flags.OnProgress = func(rows, _ int64) { m.report(event{Phase: "export", Rows: rows}) }
	var res *export.Result
	if flags.output == "-" {
		_, err = export.Stream(ctx, c, flags.Options, a.stdout)
	} else {
		res, err = export.File(ctx, c, flags.Options, flags.output, flags.force)
	}
	m.done()
	if err != nil || res == nil {
		return err
	}
	if a.json {
		return a.printJSON(exportDoc{
			SchemaVersion: schemaVersion, Dir: c.Storage().String(), Generation: c.Manifest().Generation,
			Format: flags.Format, Result: res, Seconds: time.Since(start).Seconds(),
		})
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %s %s, %s\n", flags.output, count(res.Rows), plural(res.Rows, "row", "rows"), size(res.Bytes))
	return err
}

// exportedSplits are those that the flags mean: none for an encoder alone.
func exportedSplits(m *cachesink.Manifest, flags exportFlags) ([]*cachesink.Split, error) {
	if flags.split == "" && flags.Encoder != "" {
		return nil, nil
	}
	if flags.split != "" {
		s, err := findSplit(m, flags.split)
		return []*cachesink.Split{s}, err
	}
	all := newestSplits(m)
	if len(all) > 1 && flags.Format != export.HF {
		var names []string
		for _, s := range all {
			names = append(names, s.Name)
		}
		return nil, usagef("--split says which of %q, or --encoder alone for its distinct objects", names)
	}
	return all, nil
}

// newestSplits returns the newest split of each name.
func newestSplits(m *cachesink.Manifest) []*cachesink.Split {
	var all []*cachesink.Split
	for i := range m.Splits {
		s := &m.Splits[i]
		if n := len(all); n > 0 && all[n-1].Name == s.Name {
			all[n-1] = s
			continue
		}
		all = append(all, s)
	}
	return all
}
