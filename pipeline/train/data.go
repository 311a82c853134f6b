package train

import (
	"context"
	"iter"

	"github.com/permafrost-ml/permafrost/pipeline/loss"
)

// Batch is a batch of samples with their embeddings, before the head. Its
// memory is borrowed until the iteration's next turn.
type Batch = loss.Batch

// Data is a split of cached samples.
type Data interface {
	// Kind is the kind of all its samples.
	Kind() loss.Kind
	// Dim is the number of values of an embedding: of all encoders' together.
	Dim() int
	// Rows is the number of samples.
	Rows() int64
	// Classes is the number of classes of labels, 0 for pairs.
	Classes() int
	// Batches is the number of batches of the first epochs together.
	Batches(epochs int) int64
	// Epoch yields the batches of epoch number epoch, from 0, without the
	// first done ones: the same ones for the same number each time. A batch is
	// not empty; the last may be shorter than the others. After an error
	// nothing more comes. It ends soon, with ctx's error, when ctx ends.
	Epoch(ctx context.Context, epoch int, done int64) iter.Seq2[*Batch, error]
	// Scan yields all samples in the split's order, each once, under the
	// rules of Epoch.
	Scan(ctx context.Context) iter.Seq2[*Batch, error]
}
