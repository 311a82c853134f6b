// Package tokenizer loads the tokenizer of a model directory as the Hugging
// Face tools write it: tokenizer.json, or vocab.txt, or vocab.json with
// merges.txt; with tokenizer_config.json and special_tokens_map.json beside
// them.
//
// There are three kinds (see [Kind]): WordPiece, cased or not, as in BERT and
// in MPNet (package wordpiece), and byte-level BPE as in RoBERTa (package
// bytebpe). Anything else is an error that names what is not known. [Load] is
// for a caller who knows the kind of the model; [Find] makes it out by the
// files, and asks more of them.
//
// Files are foreign: their sizes are bounded before they are read.
package tokenizer
