// Package trainable holds encoders that are trained with the head, beside
// frozen ones: their outputs are concatenated, in the order of the encoders'
// names, before the head.
//
// A [Config] declares one; its New makes it with fresh weights. What it reads
// is stored once, at the fill, and gathered in every epoch in the order of the
// embeddings: texts, or the embeddings of one frozen encoder. An [Encoder]
// owns parameters, nothing else; training goes through its passes, one for
// each side of a pair, inference through a frozen copy, as with heads.
package trainable
