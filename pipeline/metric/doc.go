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
// [Search] is the same search for its own sake: the nearest candidates
// themselves, such as the neighbors of an object that a head gets wrong.
package metric
