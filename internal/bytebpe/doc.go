// Package bytebpe splits text into the byte-level BPE tokens of RoBERTa
// models: words by GPT-2's pattern, each word's bytes merged by rank.
//
// It equals the reference, Python tokenizers with a ByteLevel pre-tokenizer
// and a BPE model without dropout. Which characters are letters, numbers or
// spaces is what the reference takes them for (chars.bin), so that tokens
// change neither with Go's Unicode tables nor with the reference's.
//
// Bytes that are no UTF-8 count as U+FFFD, one for each longest beginning of
// a character, as Python decodes them.
package bytebpe
