// Package tokenizer loads the tokenizer of a model directory as the Hugging
// Face tools write it: tokenizer.json, or vocab.txt with
// tokenizer_config.json beside it.
//
// What it can load is the WordPiece of uncased BERT models (see package
// wordpiece); any other kind of tokenizer is an error that names what is not
// known. Files are foreign: their sizes are bounded before they are read.
package tokenizer
