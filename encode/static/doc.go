// Package static is the embedded default encoder: text embeddings with real
// semantics, with no download, no model files and no native code.
//
// It is distilled from sentence-transformers/all-MiniLM-L6-v2 by
// tools/distill (see NOTICE for the model's origin and licence). Each of the
// 29,528 tokens of the vocabulary has a vector of 256 dimensions, stored as
// int8 with a scale that includes the token's weight: rare tokens count more.
// A text's embedding is the weighted sum of its tokens' vectors, scaled to
// length 1; neither the order of words nor their context counts.
//
//	var m encode.Model = static.Default()
//
// # Determinism
//
// The sum is computed in integers and the length in float64 with every
// operation rounded by itself, so that an embedding has the same bits on every
// platform, in every batch and on every worker.
//
// # Limits
//
// There is no maximum length. Upper case and accents are ignored. A text
// without a known token (an empty one, one of unknown characters) has the
// embedding in which every value is 1/16: a unit vector, never NaN.
package static
