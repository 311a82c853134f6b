// Package encode turns objects into embeddings.
//
// # Objects, inputs, identity
//
// An [Object] is a record of named fields: texts, numbers, bytes. What an
// encoder receives of it is an [Input], the values that its [Reads] picks: one
// field, several, or a template rendered to one text. Equal inputs have equal
// embeddings, so the identity of an object under an encoder is that of its
// input alone:
//
//	ID = SHA-256("permafrost.object.v1\n" canonical)
//	canonical = for each value: kind 't', 'n' or 'b' (1 byte), length (8 bytes, little endian), bytes
//
// where a number is the 8 bytes of its IEEE 754 form, little endian, with one
// zero and one NaN. [AppendInput] writes and [ParseInput] reads the canonical
// form, [Identify] hashes it. A [Key] is only a name for people: it is stored
// beside the row, and decides nothing.
//
// # Models and encoders
//
// A [Model] declares an encoder and opens instances of it; an [Encoder] is one
// instance, used by one goroutine at a time. What decides the output is
// declared in the model's [Spec] as printable fields, whose hash is the
// fingerprint under which embeddings are stored ([Spec.Declared],
// [Fingerprint]). A change that is not declared is answered from the cache. The
// suite in encodetest holds a model to its contract; static is an encoder
// that needs no files. [Switch] makes one model of several, of which a field of
// each object chooses one.
//
// # Stages
//
// [Samples] makes the sample batches that package cachesink indexes: Arrow
// record batches with rows, labels, kept columns, and for every encoder and
// side key, id and canonical input. [Stage] encodes the object batches that
// come back, with a number of workers that each open an encoder of their own
// at their first batch; the order is kept, and the encoder writes straight
// into the Arrow buffer. For encoders that pad, objects of one length share a
// batch; a [Preparing] model's inputs are made tokens or pixels on goroutines
// of their own. A record batch belongs to the stage that receives it.
// [Columns] encodes outside of a fill, in every epoch.
package encode
