// Package bert runs transformer encoders of the BERT family from a model
// directory as sentence-transformers publishes it, in pure Go.
//
//	var m encode.Model = bert.Model("models/all-MiniLM-L6-v2")
//	m = bert.Options{Dir: "models/all-MiniLM-L6-v2", MaxLength: 128}.Model()
//
// # What it loads
//
// The directory's modules.json names the steps: a Transformer, a Pooling, and
// any number of Dense and Normalize steps; without modules.json the directory
// is a plain transformer, which gets mean pooling. The architectures are BERT
// (MiniLM is one), DistilBERT and MPNet with WordPiece tokenizers, cased or
// not, and RoBERTa with a byte-level BPE tokenizer. The weights are read from
// model.safetensors, or its parts with model.safetensors.index.json, in
// float32, float16 or bfloat16. Anything else is an error that names it.
//
// # What it computes
//
// The embeddings of sentence-transformers, in float32: the same tokens, the
// same truncation, the same steps. Rounding differs in the last places. A
// text longer than the maximum length is cut to it.
//
// There is no padding: the texts of a batch lie end to end in one matrix, and
// only attention looks at them one by one. Since no sum depends on the rows
// around it (see the rounding rules of package kernels), an embedding has the
// same bits in any batch and with any number of workers.
//
// With Precision "int8" the products of the layers take rows and weights in 8
// bits ([kernels.GemmInt8]); everything else stays in float32. On
// all-MiniLM-L6-v2 the cosine to the embedding in float32 is .9989 on average
// and .9915 at least over 2,000 questions and answers. It is another
// fingerprint, since the embeddings are others.
//
// # Memory
//
// All encoders of a process share the weights of a directory, which are
// loaded at the first Open and freed after the last Close. An encoder's own
// memory is some tens of megabytes at most and reused; in the steady state
// Encode allocates nothing.
package bert
