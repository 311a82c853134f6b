// Package head holds the small trained models that sit on frozen embeddings.
//
// A [Config] declares a head; its New makes one with fresh weights. A [Head]
// owns parameters, nothing else. Training goes through its passes (one for
// each side of a pair, so that both sides' activations live until the
// backward pass), inference through a frozen copy:
//
//	h, err := head.SkipConnection{Dropout: 0.1}.New(384, rng)
//	p := h.NewPass()
//	y, err := p.Forward(x)           // train: dropout is on
//	_, err = p.Backward(dy, false)   // adds to the parameters' gradients
//	f := h.Freeze()                  // the weights as they are now
//	err = f.Apply(dst, x)            // safe for concurrent use, row-invariant
//
// Heads are made of others by [Sequential], one after the other, and by
// [Switch], which routes rows by what their objects chose of a switch encoder;
// [Forward] and [Apply] give a head the choices of its rows. Names, formulas
// and first values of parameters are those of Quaterion's heads and of
// PyTorch's Linear and LayerNorm. [Steps] takes a head apart for its export.
//
// Row-invariant means: row i of a frozen head's result has the same bits
// whatever other rows are in the batch. [Save] and [Load] keep weights as
// safetensors under the parameters' names.
package head
