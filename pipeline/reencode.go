package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/stage"
)

// ErrStaleEmbeddings is returned by [ReencodeReport.Err] for embeddings in the
// cache that are not what the encoder of their fingerprint gives.
var ErrStaleEmbeddings = errors.New("stored embeddings are not what their encoder gives")

// ReencodeOptions are the options of [Pipeline.Reencode].
type ReencodeOptions struct {
	// Sample is the number of stored objects of each cached encoder, or all
	// if there are fewer. It must be 1 at least.
	Sample int
	// Seed chooses them. Default: 0.
	Seed uint64
}

// ReencodeReport says how the stored embeddings compare with new ones.
type ReencodeReport struct {
	Dir string `json:"dir"`
	// Encoders are the cached ones, by name.
	Encoders []cachesink.Rechecked `json:"encoders"`
}

// maxNamed is how many stale objects an error names.
const maxNamed = 3

// Err returns nil, or an error that wraps ErrStaleEmbeddings and names the
// first stale objects.
func (r *ReencodeReport) Err() error {
	var named []string
	n := 0
	for _, e := range r.Encoders {
		n += len(e.Stale)
		for _, o := range e.Stale {
			if len(named) < maxNamed {
				named = append(named, fmt.Sprintf("encoder %q, object %.12s, key %q (split %s, row %d): off by %.2g of the norm",
					e.Encoder, o.ID, o.Key, o.Split, o.Row, o.Difference))
			}
		}
	}
	if n == 0 {
		return nil
	}
	more := ""
	if n > len(named) {
		more = fmt.Sprintf("\nand %d more", n-len(named))
	}
	return fmt.Errorf("%w:\n%s%s", ErrStaleEmbeddings, strings.Join(named, "\n"), more)
}

// Reencode compares a sample of the stored embeddings with what the encoders
// give now. It reads the dataset once, and changes nothing. On the machine
// that filled the cache, equal encoders give equal bits, those too that are
// not batch-invariant: the batches that hold the sampled objects are encoded
// again as they were. An embedding in another dtype is compared with the new
// one once that is rounded in the same way.
//
// An embedding is stale where a value differs by more than another processor's
// arithmetic explains: 1e-5 of the embedding's norm, in float16 also 1e-3 of
// the value, in int8 one quantization step. That is no error of Reencode; see
// [ReencodeReport.Err].
func (p *Pipeline[Row]) Reencode(ctx context.Context, opts ReencodeOptions) (*ReencodeReport, error) {
	r, err := p.reencode(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("reencode: %w", ended(ctx, err))
	}
	return r, nil
}

func (p *Pipeline[Row]) reencode(ctx context.Context, opts ReencodeOptions) (*ReencodeReport, error) {
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	encoders, err := p.encoders(ctx)
	if err != nil {
		return nil, err
	}
	re, err := p.cache.Recheck(ctx, p.fillOptions(encoders, false), cachesink.RecheckOptions{Sample: opts.Sample, Seed: opts.Seed})
	if err != nil {
		return nil, err
	}
	if len(re.Encoders()) > 0 {
		guard, err := p.skipping()
		if err != nil {
			return nil, err
		}
		g, _ := stage.NewGroup(ctx)
		p.encodeAll(g, re, re.Index(g, p.samples(g, encoders, p.everySplit(), guard)), encoders)
		if err := errors.Join(g.Wait(), guard.Close()); err != nil {
			return nil, err
		}
	}
	return &ReencodeReport{Dir: p.storage.String(), Encoders: re.Results()}, nil
}
