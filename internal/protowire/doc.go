// Package protowire reads and writes messages in the wire format of Protocol
// Buffers, field by field and without a schema: enough for ONNX files.
package protowire
