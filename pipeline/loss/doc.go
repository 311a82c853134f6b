// Package loss holds the losses of similarity learning. A [Config] declares
// a loss; its New makes a [Loss], which gives the value and the gradients of
// a batch of embeddings. Some losses have parameters of their own, which are
// trained with the head.
package loss
