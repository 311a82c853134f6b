package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/encode/bert"
	"github.com/permafrost-ml/permafrost/encode/onnx"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/export"
)

// The forms of a head.
const (
	headONNX   = "onnx"
	headJoined = "joined-onnx"
	headST     = "sentence-transformers"
)

var headForms = []string{headONNX, headJoined, headST}

// notOfHeads are the flags that do not go with --head.
var notOfHeads = append([]string{"set", "format", "split", "encoder", "side", "batch-rows", "to", "distance", "cursors"}, epochFlags...)

func checkHeadFlags(cmd *cobra.Command, flags exportFlags) error {
	if !slices.Contains(headForms, flags.head) {
		return usagef("--head is one of %s, not %q", strings.Join(headForms, ", "), flags.head)
	}
	if flags.output == "" || flags.output == "-" {
		return usagef("--output says where to, a file, for %s a folder", headST)
	}
	if flags.base != "" && flags.head != headST {
		return usagef("--base goes with --head %s", headST)
	}
	for _, name := range notOfHeads {
		if cmd.Flags().Changed(name) {
			return usagef("--%s does not go with --head", name)
		}
	}
	return nil
}

// headDoc is what export --head --json prints.
type headDoc struct {
	SchemaVersion int      `json:"schema_version"`
	Dir           string   `json:"dir"`
	Head          string   `json:"head"` // its type
	Form          string   `json:"form"`
	Encoders      []string `json:"encoders"`
	*export.HeadResult
	Seconds float64 `json:"seconds"`
}

// exportHead writes the trained head of an output folder.
func (a *app) exportHead(ctx context.Context, dir string, flags exportFlags) error {
	t, err := pipeline.LoadHead(dir)
	if err != nil {
		return err
	}
	start := time.Now()
	res, err := writeHead(ctx, t, flags)
	if err != nil {
		return err
	}
	if a.json {
		doc := headDoc{
			SchemaVersion: schemaVersion, Dir: dir, Head: t.Type, Form: flags.head, HeadResult: res, Seconds: time.Since(start).Seconds(),
		}
		for _, e := range t.Encoders {
			doc.Encoders = append(doc.Encoders, e.Name)
		}
		return a.printJSON(doc)
	}
	_, err = fmt.Fprintf(a.stdout, "%s: head %s, %d values to %d, %s\n", flags.output, t.Type, res.In, res.Out, size(res.Bytes))
	return err
}

func writeHead(ctx context.Context, t *pipeline.Trained, flags exportFlags) (*export.HeadResult, error) {
	if flags.head == headONNX {
		return export.HeadONNX(t.Head, flags.output, flags.force)
	}
	if len(t.Encoders) != 1 {
		var names []string
		for _, e := range t.Encoders {
			names = append(names, e.Name)
		}
		return nil, fmt.Errorf("%w: the head is over the encoders %s side by side, %s holds one: export it alone with --head %s",
			export.ErrOptions, strings.Join(names, ", "), flags.head, headONNX)
	}
	e := t.Encoders[0]
	if flags.head == headJoined {
		if e.Type != "onnx" {
			return nil, fmt.Errorf("%w: encoder %q is of the engine %s and has no ONNX graph: export the head alone with --head %s",
				export.ErrOptions, e.Name, e.Type, headONNX)
		}
		m, err := e.Model(ctx)
		if err != nil {
			return nil, err
		}
		graph, err := onnx.OutputOf(ctx, m)
		if err != nil {
			return nil, err
		}
		return export.JoinedONNX(ctx, t.Head, graph, flags.output, flags.force)
	}
	base, err := baseOf(ctx, e, flags.base)
	if err != nil {
		return nil, err
	}
	return export.SentenceTransformers(ctx, t.Head, base, flags.output, flags.force)
}

// baseOf is the model directory below a head: the encoder's, or that of
// --base. One that the encoder's engine reads is held to its fingerprint.
func baseOf(ctx context.Context, e pipeline.TrainedEncoder, dir string) (bert.Options, error) {
	if e.Type != "bert" {
		if dir == "" {
			return bert.Options{}, fmt.Errorf("%w: encoder %q is of the engine %s: name the directory of the same model for sentence-transformers with --base DIR",
				export.ErrOptions, e.Name, e.Type)
		}
		return bert.Options{Dir: dir}, nil
	}
	options, err := e.Options()
	if err != nil {
		return bert.Options{}, err
	}
	base, ok := options.(bert.Options)
	if !ok {
		return bert.Options{}, fmt.Errorf("encoder %q has the options %T", e.Name, options)
	}
	if dir != "" {
		base.Dir = dir
	}
	return base, e.Check(ctx, base.Model())
}
