// Package wordpiece splits text into the WordPiece tokens of BERT models: clean
// up, for uncased models accents off and lower case, words and punctuation,
// then the longest known pieces of each word.
//
// It equals the reference, Python tokenizers with a BertNormalizer
// (clean_text, handle_chinese_chars, and either lowercase with strip_accents
// unset or true, or neither), a BertPreTokenizer and a WordPiece model
// ("[UNK]", "##", 100 characters a word). The reference works with older Unicode tables than Go: 568 code
// points, such as U+061D, U+0890 and U+0898 to U+089F, would come out
// differently with package unicode, and still others after an update of Go.
// Embeddings that are already stored must not change with the toolchain, so
// this package carries its own tables (unicode.bin, cased.bin), taken from the reference
// code point by code point; tools/distill writes them.
//
// Bytes that are no UTF-8 are dropped, as is U+FFFD, for which the reference
// sees them. The text of a special token, such as "[SEP]", becomes that token
// wherever the vocabulary has it, as in the reference.
package wordpiece
