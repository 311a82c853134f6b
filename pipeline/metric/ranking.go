package metric

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
)

// hits counts the ranks up to k.
func hits(ranks []int32, k int) int {
	n := 0
	for n < len(ranks) && int(ranks[n]) <= k {
		n++
	}
	return n
}

// atK is what metrics of the k nearest objects have in common.
func atK(typ string, k int) string { return typ + "@" + strconv.Itoa(k) }

func checkK(k int) error {
	if k < 0 {
		return fmt.Errorf("k is %d where at least 1 is needed", k)
	}
	return nil
}

// RetrievalPrecision declares precision at k: the share of relevant objects
// among the K nearest.
type RetrievalPrecision struct {
	// K is the number of nearest objects looked at, at least 1. Default: 1.
	K int `json:"k"`
}

// Type is "retrieval_precision".
func (RetrievalPrecision) Type() string { return "retrieval_precision" }

// Name is "retrieval_precision@k".
func (m RetrievalPrecision) Name() string { return atK(m.Type(), m.k()) }

// Params is k.
func (m RetrievalPrecision) Params() map[string]any { return map[string]any{"k": m.k()} }

// Validate refuses a negative K.
func (m RetrievalPrecision) Validate() error { return checkK(m.K) }

func (m RetrievalPrecision) k() int { return cmp.Or(m.K, 1) }

// Score is the number of ranks up to K, divided by K: also where fewer than
// K objects are relevant or there are fewer candidates.
func (m RetrievalPrecision) Score(ranks []int32) float64 {
	return float64(hits(ranks, m.k())) / float64(m.k())
}

// Recall declares recall at k: the share of the relevant objects that are
// among the K nearest.
type Recall struct {
	// K is the number of nearest objects looked at, at least 1. Default: 10.
	K int `json:"k"`
}

// Type is "recall".
func (Recall) Type() string { return "recall" }

// Name is "recall@k".
func (m Recall) Name() string { return atK(m.Type(), m.k()) }

// Params is k.
func (m Recall) Params() map[string]any { return map[string]any{"k": m.k()} }

// Validate refuses a negative K.
func (m Recall) Validate() error { return checkK(m.K) }

func (m Recall) k() int { return cmp.Or(m.K, 10) }

// Score is the number of ranks up to K, divided by that of all ranks: below 1
// in any case where more than K objects are relevant.
func (m Recall) Score(ranks []int32) float64 {
	return float64(hits(ranks, m.k())) / float64(len(ranks))
}

// ReciprocalRank declares 1 divided by the rank of the nearest relevant
// object; its mean is known as MRR.
type ReciprocalRank struct {
	// Variant may be [VariantQuaterion]: every relevant object counts, not
	// the nearest alone, and the mean is over all of them; queries with many
	// weigh more. Default: none.
	Variant string `json:"variant"`
}

// Type is "reciprocal_rank".
func (ReciprocalRank) Type() string { return "reciprocal_rank" }

// Name is "reciprocal_rank", with ":quaterion" for that variant.
func (m ReciprocalRank) Name() string { return variantName(m.Type(), m.Variant) }

// Params is variant.
func (m ReciprocalRank) Params() map[string]any { return map[string]any{"variant": m.Variant} }

// Validate refuses an unknown variant.
func (m ReciprocalRank) Validate() error { return checkVariant(m.Variant) }

// Score is 1 over the first rank, of the variant the mean over all ranks.
func (m ReciprocalRank) Score(ranks []int32) float64 {
	if m.Variant == "" {
		return 1 / float64(ranks[0])
	}
	sum := 0.0
	for _, r := range ranks {
		sum += 1 / float64(r)
	}
	return sum / float64(len(ranks))
}

// Weight is 1, of the variant the number of relevant objects.
func (m ReciprocalRank) Weight(relevant int) float64 { return variantWeight(m.Variant, relevant) }

// variantWeight makes a variant's mean one over relevant objects.
func variantWeight(variant string, relevant int) float64 {
	if variant == "" {
		return 1
	}
	return float64(relevant)
}

// RPrecision declares precision at R, the number of objects that are relevant
// to the query.
type RPrecision struct {
	// Variant may be [VariantQuaterion]: a query's weight in the mean is R,
	// so that large groups decide. Default: none.
	Variant string `json:"variant"`
}

// Type is "r_precision".
func (RPrecision) Type() string { return "r_precision" }

// Name is "r_precision", with ":quaterion" for that variant.
func (m RPrecision) Name() string { return variantName(m.Type(), m.Variant) }

// Params is variant.
func (m RPrecision) Params() map[string]any { return map[string]any{"variant": m.Variant} }

// Validate refuses an unknown variant.
func (m RPrecision) Validate() error { return checkVariant(m.Variant) }

// Score is the number of ranks up to R, divided by R.
func (m RPrecision) Score(ranks []int32) float64 {
	return float64(hits(ranks, len(ranks))) / float64(len(ranks))
}

// Weight is 1, of the variant R.
func (m RPrecision) Weight(relevant int) float64 { return variantWeight(m.Variant, relevant) }

// NDCG declares normalized discounted cumulative gain at k, with the gain 1
// for every relevant object, whatever its score.
type NDCG struct {
	// K is the number of nearest objects looked at, at least 1. Default: 10.
	K int `json:"k"`
}

// Type is "ndcg".
func (NDCG) Type() string { return "ndcg" }

// Name is "ndcg@k".
func (m NDCG) Name() string { return atK(m.Type(), m.k()) }

// Params is k.
func (m NDCG) Params() map[string]any { return map[string]any{"k": m.k()} }

// Validate refuses a negative K.
func (m NDCG) Validate() error { return checkK(m.K) }

func (m NDCG) k() int { return cmp.Or(m.K, 10) }

// Score is the sum of 1/log2(1+rank) over the ranks up to K, divided by what
// it would be if the relevant objects came first (Järvelin and Kekäläinen,
// 2002).
func (m NDCG) Score(ranks []int32) float64 {
	got, best := 0.0, 0.0
	for i, r := range ranks {
		if i >= m.k() {
			break
		}
		best += 1 / math.Log2(float64(i+2))
		if int(r) <= m.k() {
			got += 1 / math.Log2(float64(r)+1)
		}
	}
	return got / best
}

// MAP declares average precision; its mean over queries is known as MAP.
type MAP struct {
	// K is the number of nearest objects looked at. Default: 0, all.
	K int `json:"k"`
}

// Type is "map".
func (MAP) Type() string { return "map" }

// Name is "map", or "map@k" with a K.
func (m MAP) Name() string {
	if m.K == 0 {
		return m.Type()
	}
	return atK(m.Type(), m.K)
}

// Params is k.
func (m MAP) Params() map[string]any { return map[string]any{"k": m.K} }

// Validate refuses a negative K.
func (m MAP) Validate() error { return checkK(m.K) }

// Score is the sum, over the relevant objects of ranks up to K, of the
// precision at their rank, divided by the number of relevant objects, or by K
// if that is less: i / ranks[i-1] for the i-th.
func (m MAP) Score(ranks []int32) float64 {
	sum, most := 0.0, len(ranks)
	if m.K > 0 {
		most = min(most, m.K)
	}
	for i, r := range ranks {
		if m.K > 0 && int(r) > m.K {
			break
		}
		sum += float64(i+1) / float64(r)
	}
	return sum / float64(most)
}
