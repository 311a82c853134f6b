// Package onnx is the engine that runs any encoder exported to ONNX, of texts
// or of images, with ONNX Runtime.
//
//	model := onnx.Model("models/minilm")            // model.onnx, tokenizer.json
//	model = onnx.Options{Path: "models/vision", Threads: 2}.Model()
//
// tools/onnx turns a sentence-transformers directory of the BERT family into
// such a model; exports of other tools work as well.
//
// # Library
//
// The shared library of ONNX Runtime (1.24 or later) is loaded at the first
// use, never before, and stays loaded. It is looked for at the option library,
// the variable PERMAFROST_ONNXRUNTIME, in the usual library folders and in the
// site-packages of python3 (`pip install onnxruntime`). A process has one: a
// second, other one is an error. The engine is compiled in where cgo is on;
// elsewhere its models return [ErrNoCgo].
//
// # Texts
//
// A graph whose inputs are input_ids, attention_mask and token_type_ids (the
// last two may be missing) encodes texts. The tokenizer is that of
// tokenizer.json, of vocab.txt, or of vocab.json and merges.txt: WordPiece as
// in BERT, cased or not, and in MPNet, or byte-level BPE as in RoBERTa; the
// files must say which it is, and what is padded with. A batch is
// sorted by length and cut into runs so that little is padded. The output is
// one vector a text, or one a token; these are pooled here. Float16 outputs
// become float32.
//
// # Images
//
// A graph with one float input [batch, 3, height, width] encodes pictures: the
// bytes of a PNG, JPEG, GIF (the first frame) or WebP file, prepared as
// preprocessor_config.json says.
//
// # Preparing
//
// Texts are tokenized, and pictures decoded and scaled, ahead of the sessions
// (see [encode.Preparing]); that needs neither a session nor the library.
//
// # Determinism
//
// An encoder has one session, whose runs are on one thread by default. The
// same batch gives the same bits from any encoder of the same library on the
// same kind of processor. A text's embedding may differ in its last bits with
// its company in a batch, so the batch size is part of the fingerprint, as are
// the library's version and the number of threads.
package onnx
