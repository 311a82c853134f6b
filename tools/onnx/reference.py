#!/usr/bin/env python3
"""Writes what sentence-transformers gives for texts, for the tests of the engines.

    reference.py MODEL_DIR TEXTS.jsonl OUT_DIR [--texts 2000]

OUT_DIR/texts.json is the list of texts: the first questions and answers of
TEXTS.jsonl, and 300 hard strings. OUT_DIR/vectors.f32 holds their embeddings,
float32, little endian, one text after the other.
"""
import argparse
import json
import os
import pathlib
import random

os.environ["HF_HUB_OFFLINE"] = "1"

SCRIPTS = [(0x21, 0x7e), (0xa1, 0x24f), (0x370, 0x3ff), (0x400, 0x52f), (0x531, 0x58f), (0x5d0, 0x5ea), (0x621, 0x6ff), (0x904, 0x97f),
           (0x985, 0x9ff), (0xb85, 0xbff), (0xe01, 0xe5b), (0x10a0, 0x10ff), (0x1100, 0x11ff), (0x1200, 0x137f), (0x1780, 0x17ff),
           (0x1e00, 0x1fff), (0x2010, 0x2bff), (0x3041, 0x30ff), (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0x1f300, 0x1faff), (0x300, 0x36f)]


def hard_strings(words, count=300):
    """Strings that tokenizers and poolings get wrong: empty, huge, every script, marks, controls, special tokens."""
    r = random.Random(5)
    out = ["", " ", "\t\r\n", "a", ".", "\u0000", "\ufffd", "[SEP]", "[CLS] [SEP] [PAD] [MASK] [UNK]", "x" * 100, "x" * 101, "x" * 5000,
           "word " * 254, "word " * 255, "word " * 3000, "e\u0301\u0302\u0303", "\u200b\u200d\ufeff", "\U0001f469\u200d\U0001f467",
           "\u1e9b\u0323", "\u0130I\u0131i", "\u1100\u1161\u11a8", "\u00ad", "\u2028\u2029\u0085", "##ing ##s", "a" * 99 + "\u0301"]
    while len(out) < count:
        low, high = SCRIPTS[len(out) % len(SCRIPTS)]
        parts = []
        for _ in range(r.choice((1, 3, 9, 30, 120))):
            if r.random() < .5:
                parts.append("".join(chr(r.randint(low, high)) for _ in range(r.randint(1, 12))))
            else:
                parts.append(r.choice((str.lower, str.upper, str.title))(r.choice(words)))
        out.append(r.choice((" ", " ", "", "-", "\u00a0")).join(parts))
    return [s.encode("utf8", "ignore").decode("utf8") for s in out]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("model_dir", type=pathlib.Path)
    p.add_argument("texts", type=pathlib.Path)
    p.add_argument("out_dir", type=pathlib.Path)
    p.add_argument("--texts", dest="count", type=int, default=2000)
    a = p.parse_args()
    texts = []
    with a.texts.open(encoding="utf8") as lines:
        for line in lines:
            row = json.loads(line)
            texts += [row["question"], row["answer"]]
            if len(texts) >= a.count:
                break
    texts = texts[:a.count]
    texts += hard_strings(sorted({w for t in texts for w in t.split()})[:5000])

    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer(str(a.model_dir), device="cpu")
    vectors = model.encode(texts, batch_size=32).astype("<f4")
    a.out_dir.mkdir(parents=True, exist_ok=True)
    (a.out_dir / "texts.json").write_text(json.dumps(texts))
    (a.out_dir / "vectors.f32").write_bytes(vectors.tobytes())
    print(f"{len(texts)} texts, max_seq_length {model.max_seq_length}, {vectors.shape}")


if __name__ == "__main__":
    main()
