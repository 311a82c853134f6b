// Package train trains a head on cached embeddings.
//
// [Fit] walks over the epochs of a [Data], which hands out batches of
// embeddings with their labels or scores, and changes a head's weights (and
// a loss's own, and those of trained encoders before the head) by an
// [Optimizer], under a [Schedule] of the learning rate. Between epochs it can
// measure another split, end where nothing gets better, and write checkpoints,
// from which the next Fit goes on. [Evaluate] measures retrieval over all
// objects of a Data, with a head frozen at some point of training, [MeanLoss]
// the loss.
//
// Results depend on the data's batches, the configurations and the seed, not
// on GOMAXPROCS, time or interruptions. There is no automatic differentiation:
// every head, loss and trained encoder brings its own backward pass.
//
// A step that is not finite is not made: [DivergedError] names it and its
// rows, and the checkpoint before it stays.
package train
