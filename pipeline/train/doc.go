// Package train trains a head on cached embeddings.
//
// [Fit] walks over the epochs of a [Data], which hands out batches of
// embeddings with their labels or scores, and changes a head's weights (and
// a loss's own) by an optimizer. [Evaluate] measures retrieval over all
// objects of a Data, with a head frozen at some point of training.
//
// Results depend on the data's batches, the configurations and the seed, not
// on GOMAXPROCS or time. There is no automatic differentiation: every head
// and loss brings its own backward pass.
package train
