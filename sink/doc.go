// Package sink holds the other ends of the dataflow: stages that take record
// batches out of it, as JSON lines, as an Arrow IPC stream, as a Parquet file,
// or to a function.
// The end that keeps them for replay is package cachesink; sink/qdrant uploads
// them to a vector database, and sink/flight serves what was kept to clients.
//
//	recs := encode.Stage(g, objects, "minilm", model, encode.StageOptions{})
//	sink.ArrowStream(g, recs, os.Stdout)
//	err := g.Wait()
//
// Every sink takes ownership of the record batches that it consumes and
// releases them.
package sink
