package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
)

// forge is a program for scripts: it fills the cache of a config with wrong
// embeddings, under the fingerprints of the right ones.
func forge() {
	if err := forgeFill(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func forgeFill(config string) error {
	cfg, err := pipeline.LoadConfig(config)
	if err != nil {
		return err
	}
	for name, m := range cfg.Encoders {
		cfg.Encoders[name] = encode.Reading(forgedModel{encode.Unwrap(m)}, encode.ReadsOf(m))
	}
	p, err := pipeline.New(cfg)
	if err != nil {
		return err
	}
	defer p.Close()
	_, err = p.Fill(context.Background())
	return err
}

type forgedModel struct{ encode.Model }

func (m forgedModel) Open(ctx context.Context, worker int) (encode.Encoder, error) {
	e, err := m.Model.Open(ctx, worker)
	return forgedEncoder{e}, err
}

type forgedEncoder struct{ encode.Encoder }

// Encode gives the embedding of "two" a wrong value.
func (e forgedEncoder) Encode(ctx context.Context, batch []encode.Input, dst []float32) error {
	err := e.Encoder.Encode(ctx, batch, dst)
	for i, in := range batch {
		if in.Text() == "two" {
			dst[i*e.Dim()]++
		}
	}
	return err
}
