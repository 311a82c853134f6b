// Package sampler declares which samples training takes, in which batches.
//
// Without a sampler every sample comes once in an epoch. A [Config] declares
// something else: [Subset], [Weighted], [Mixed] and [NoDuplicates] say what
// comes in batches of the size that training has, and [GroupBalanced] makes
// batches of its own. [Subset] and [NoDuplicates] can stand before another
// sampler:
//
//	sampler.Subset{Column: "lang", Values: sampler.Values{"en"}, Of: sampler.GroupBalanced{Groups: 16, Samples: 4}}
//
// In a configuration file this is
//
//	train: {sampler: {type: subset, column: lang, values: [en], of: {type: group_balanced, groups: 16, samples: 4}}}
//
// The batches are a pure function of the seed, the epoch, the sampler and the
// columns that it reads, see [source.Sampler]; so an epoch can be gone on with
// at any batch, by any number of ranks.
package sampler
