"""Writes the tables and test vectors of internal/bytebpe, by Python tokenizers.

usage: python bytebpe.py FOLDER

FOLDER is internal/bytebpe: chars.bin holds the classes of all code points
(its reader, chars.go, tells the layout), testdata/vectors.json a small
tokenizer, trained on the strings of tools/distill/vectors.py, with the ids of
these strings, and one SHA-256 for all code points c: over the ids, four bytes
little endian each, of "a" + c + " 1" + c + "!" + c + c + "b".
"""

import base64
import hashlib
import json
import pathlib
import random
import struct
import sys

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "distill"))
import vectors  # noqa: E402

OTHER, LETTER, NUMBER, SPACE = range(4)


def classes() -> list[int]:
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    out = []
    for c in range(0x110000):
        s = chr(c) if not 0xD800 <= c < 0xE000 else "!"
        joins = [k for k, first in ((LETTER, "a"), (NUMBER, "1"), (OTHER, "!")) if len(split(first + s)) == 1]
        if len(joins) > 1:
            raise SystemExit(f"{c:x} is of several classes")
        out.append(joins[0] if joins else SPACE)
    return out


def trained(vocab_size: int, texts: list[str]) -> Tokenizer:
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    specials = ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)]
    tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tok


def main(folder: str) -> None:
    out = pathlib.Path(folder)
    runs, last = [], None
    for c, k in enumerate(classes()):
        if k != last:
            runs.append(c << 2 | k)
            last = k
    (out / "chars.bin").write_bytes(struct.pack(f"<{len(runs)}I", *runs))

    rng = random.Random(3)
    raw = [s.encode() for s in vectors.SENTENCES.strip().split("\n") + vectors.PIECES] + vectors.RAW
    raw += [vectors.mixed(rng).encode() for _ in range(100)]
    raw += [s.encode() for s in ("a <mask> b<mask>", "\u3000 \n<mask>", "<s>x</s><pad>", "it's we'll I'd they've 'Twas ''s", "  two  spaces\n\n\tand\x85\u2028more  ", "aaaaaaaaaaaaaaaaaaaaaa" * 40)]
    texts = [b.decode("utf-8", "replace") for b in raw]
    tok = trained(560, texts + vectors.SENTENCES.split())
    state = json.loads(tok.to_str())
    h = hashlib.sha256()
    for c in range(0x110000):
        if not 0xD800 <= c < 0xE000:
            ids = tok.encode(f"a{chr(c)} 1{chr(c)}!{chr(c)}{chr(c)}b").ids
            h.update(struct.pack(f"<{len(ids)}i", *ids))
    cases = ",\n".join(json.dumps({"text": base64.b64encode(b).decode(), "ids": tok.encode(t).ids}, separators=(",", ":")) for b, t in zip(raw, texts))
    vocab, merges = (json.dumps(state["model"][k], separators=(",", ":")) for k in ("vocab", "merges"))
    (out / "testdata").mkdir(exist_ok=True)
    (out / "testdata/vectors.json").write_text(f'{{"code_points":"{h.hexdigest()}",\n"vocab":{vocab},\n"merges":{merges},\n"cases":[\n{cases}\n]}}\n')
    print(len(runs), "runs,", len(state["model"]["merges"]), "merges,", len(raw), "cases")


if __name__ == "__main__":
    main(sys.argv[1])
