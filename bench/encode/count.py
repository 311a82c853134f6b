"""Prints how many tokens a model's tokenizer makes of the texts of a file."""

import json
import sys

import tokenizers

model, path = sys.argv[1:]
t = tokenizers.Tokenizer.from_file(f"{model}/tokenizer.json")
t.no_padding()
t.enable_truncation(json.load(open(f"{model}/sentence_bert_config.json"))["max_seq_length"])
print(sum(len(e.ids) for e in t.encode_batch([json.loads(line) for line in open(path, encoding="utf-8")])))
