"""Writes internal/wordpiece/unicode.bin and cased.bin: what the reference tokenizer does to each code point.

The tables are found by asking the reference (Python tokenizers, the version
pinned in requirements.txt) about all 1,112,064 code points, so they follow
its Unicode versions, which are older than Go's and differ between its
normalizer and its pre-tokenizer.

usage: python unicode_tables.py OUTPUT [--cased]

With --cased the reference keeps case and accents.

Layout, little endian: five uint32 (the lengths in bytes of what follows),
then stage1 (a byte per block of 128 code points), stage2 (uint16 per code
point of each distinct block: a class below 16, or 16 plus the number of a
replacement, with bit 15 for a character set off by spaces), offsets (uint16,
one more than there are replacements), replacements (UTF-8), and the kept
characters that canonical ordering moves (4 bytes each: 24 bits of code point,
8 bits of combining class).
"""

import struct
import sys
import unicodedata

from tokenizers.normalizers import BertNormalizer

import minilm

WORD, DROP, BREAK, SPACE, PUNCT, ALONE, MARK, HANGUL = range(8)
FIRST, SET_OFF = 16, 0x8000
BLOCK = 128


def main(output: str, cased: bool) -> None:
    tok = minilm.tokenizer()
    if cased:
        tok.normalizer = BertNormalizer(lowercase=False, strip_accents=False)
    normal = tok.normalizer.normalize_str
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    after = {c: normal("a" + chr(c) + "a")[1:-1] for c in points}

    # Marks that stay in the text and are moved by canonical ordering. One of
    # a high and one of a low class, to see which classes others have.
    # Nothing is reordered where accents stay.
    kept = [c for c in points if not cased and unicodedata.combining(chr(c)) and chr(c) in after[c]]
    moved = [c for c in kept if any(moves(normal, c, d) or moves(normal, d, c) for d in kept)]
    high = next((c for c in moved if unicodedata.combining(chr(c)) == 226), None)
    low = next((c for c in moved if unicodedata.combining(chr(c)) == 216), None)
    for c in moved:
        for d in moved:
            want = unicodedata.combining(chr(c)) > unicodedata.combining(chr(d))
            if moves(normal, c, d) != want:
                raise SystemExit(f"{c:x} {d:x}: the order is not that of the combining classes")

    table, replacements = [WORD] * 0x110000, {}
    for c in points:
        s = after[c]
        if s == "":
            # A mark of class 0 that is removed after the ordering still ends a run of marks.
            through = cased or normal("a" + chr(high) + chr(c) + chr(low)) == "a" + chr(low) + chr(high)
            table[c] = DROP if through else BREAK
        elif s == " ":
            table[c] = SPACE
        elif 0xAC00 <= c <= 0xD7A3 and not cased:
            if s != unicodedata.normalize("NFD", chr(c)):
                raise SystemExit(f"{c:x} is not decomposed by rule")
            table[c] = HANGUL
        elif s == " " + chr(c) + " ":
            table[c] = ALONE
        elif s != chr(c):
            off = SET_OFF if s[0] == " " else 0
            table[c] = off | FIRST + replacements.setdefault(s.strip(" "), len(replacements))
        elif c in moved:
            table[c] = MARK
        elif len(tok.pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")) == 3:
            table[c] = PUNCT

    blocks, stage1 = {}, bytearray()
    for at in range(0, 0x110000, BLOCK):
        block = struct.pack(f"<{BLOCK}H", *table[at : at + BLOCK])
        stage1.append(blocks.setdefault(block, len(blocks)))
    offsets, text = [0], b""
    for s in replacements:
        text += s.encode()
        offsets.append(len(text))
    marks = b"".join(struct.pack("<I", c | unicodedata.combining(chr(c)) << 24) for c in moved)
    parts = [bytes(stage1), b"".join(blocks), struct.pack(f"<{len(offsets)}H", *offsets), text, marks]
    with open(output, "wb") as f:
        f.write(struct.pack("<5I", *map(len, parts)) + b"".join(parts))
    print(f"{len(blocks)} blocks, {len(replacements)} replacements, {len(moved)} marks, {sum(map(len, parts))} bytes")


def moves(normal, c: int, d: int) -> bool:
    """Reports whether the reference puts d before c in "a" c d."""
    return normal("a" + chr(c) + chr(d)) == "a" + chr(d) + chr(c) and c != d


if __name__ == "__main__":
    main(sys.argv[1], "--cased" in sys.argv[2:])
