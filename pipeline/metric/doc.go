// Package metric measures retrieval: every query searches all other objects
// by cosine similarity, exactly, and a metric looks at the ranks at which
// the query's relevant objects come.
//
// The rank of a relevant object is 1 plus the number of candidates before
// it: those with a higher similarity, those of the same similarity that are
// not relevant, and relevant ones of the same similarity (counted once, in
// some order). So an encoder that cannot tell objects apart is never
// rewarded for it, and a metric does not depend on the order of objects.
// A query is no candidate for itself, and queries with no relevant object
// are left out of the mean.
//
// Over groups every row is a query, and the other rows of its label are
// relevant ([ByLabel]). Over pairs every distinct object of either side is a
// query and a candidate, and its partners in pairs of a score above 0 are
// relevant ([ByPairs]).
//
// With R relevant objects at the ranks r1 < r2 < ..., a query has
//
//	RetrievalPrecision  |{ri <= k}| / k
//	Recall              |{ri <= k}| / R
//	RPrecision          |{ri <= R}| / R
//	ReciprocalRank      1 / r1
//	MAP                 sum of i/ri over ri <= k, / min(R, k)
//	NDCG                sum of 1/log2(1+ri) over ri <= k, / sum of 1/log2(1+i) over i <= min(R, k)
//
// [Spearman] looks at pairs instead, and compares the order of their scores
// with that of their similarities. [EvaluateSample] estimates all of this from
// random samples of queries and pairs, for splits whose square is too large.
//
// [Search] is the same search for its own sake: the nearest candidates
// themselves, such as the neighbors of an object that a head gets wrong.
package metric
