// Package arrowipc reads Arrow IPC files and streams, one record batch at a
// time, whatever their bytes are.
//
// [Open] reads the schema of either format, told apart by how they begin; a
// [Reader] gives the wanted columns of one record batch after the other as
// [Array] values, whose accessors check what they are asked for. Buffers of
// other columns are not read. Buffers may be compressed with LZ4 or zstd;
// dictionaries may grow and, in streams, be replaced.
//
// # Damaged and hostile files
//
// Any bytes give values or an error. Flatbuffers are read by a reader that
// holds every offset against the bytes there are, and sizes of bodies and
// buffers are held against the file before anything is allocated for them. A
// buffer that is compressed takes memory as its content comes, and at most
// [Reader].Limit. Offsets inside of arrays are checked where they are used. Arrow's
// own Go reader has none of this: it can end the process.
//
// A stream without its end-of-stream marker, and a file without its footer, is
// cut, and an error, also where it is cut between two record batches.
package arrowipc
