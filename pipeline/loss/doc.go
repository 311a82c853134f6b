// Package loss holds the losses of similarity learning. A [Config] declares
// a loss; its New makes a [Loss], which gives the value and the gradients of
// a batch of embeddings. Some losses have parameters of their own, which are
// trained with the head, and some a state (see [Stateful]).
//
// Of pairs (a, b, score, subgroup):
//
//	multiple_negatives_ranking  every b among those of the batch
//	info_nce                    the same, with pairs of score 0 as negatives
//	contrastive                 distances of similar and of other pairs
//	cosent                      the order of pairs by their scores
//
// Of groups (object, label):
//
//	triplet, online_contrastive, circle, fast_ap   pairs within the batch
//	softmax, arc_face, cos_face                    a classifier of the labels
//	center                                         distances to the labels' centres
//
// Of other losses, of one kind or the other:
//
//	sum, matryoshka
//
// Formulas are those of the papers that the configs name. Where Quaterion
// computes others, [VariantQuaterion] gives them as they are.
//
// # Objects of one id
//
// The same object may be in a batch more than once. What a batch's ids say
// to be one object is no negative of itself, nor of what belongs to it: losses
// of pairs leave it out of the negatives, losses of groups form no pair of it.
// [VariantQuaterion] does not look at ids.
//
// # Precision
//
// Embeddings, tables of pairs and gradients are float32; sums over a batch,
// and values of single pairs, are float64. Values and gradients are within
// 1e-5 of those of float64, relative to the largest. A NaN or an infinity in
// the embeddings is in the value. Results do not depend on GOMAXPROCS.
package loss
