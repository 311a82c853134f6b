"""Writes the test vectors of internal/wordpiece: strings and the reference's token ids.

usage: python vectors.py FOLDER

FOLDER gets vectors.json and vocab.txt.gz. A string is stored as base64 of its
raw bytes. Python's tokenizer takes text only, so bytes that are no UTF-8 reach
it through bytes.decode("utf-8", "replace"); the ids include [CLS] and [SEP].
The file also holds one SHA-256 for all code points: over the ids, each as four
bytes little endian, of "a" + c + "B" for c from U+0000 to U+10FFFF without the
surrogates, [CLS] and [SEP] included.

cased.json is of a small model that keeps case and accents: its vocabulary, one
SHA-256 over the ids of all strings of vectors.json, and one for all code
points, both as above.
"""

import base64
import gzip
import hashlib
import json
import pathlib
import random
import struct
import sys

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import minilm

SENTENCES = """
The quick brown fox jumps over the lazy dog.
How do I rotate the access keys of a service account without downtime?
unaffable antidisestablishmentarianism electroencephalographically
HTTP/2 & TLS1.3: https://example.org/a?b=c#d, e-mail me@example.org!!!
don't can't I'll we've it's O'Neill's "quoted" 'single' ``ticks''
3.14159 1,000,000 $99.99 50% +1-800-555-0199 2026-10-01T12:00:00Z
snake_case camelCase kebab-case path/to/file.go C++ C# F# .NET
Café naïve résumé Zürich Ångström Øresund façade jalapeño coöperate
İstanbul'da ığdır şöyle güneş; straße STRASSE ẞ ﬁne ﬂow ﬃ
Příliš žluťoučký kůň úpěl ďábelské ódy
Zażółć gęślą jaźń, Łódź
Đặng Thị Hồng đến từ Việt Nam; tiếng Việt rất đẹp
Быстрая коричневая лиса перепрыгнула через ленивую собаку. Ёлка Й й
Як справи? Їжак, ґанок, єдність
Здраво свете; љубав, њива, џеп
Η γρήγορη καφετιά αλεπού· ΟΔΥΣΣΕΥΣ Ὀδυσσεύς ᾳ ῷ ΐ ;
Արագ շագանակագույն աղվեսը Եւ և
სწრაფი ყავისფერი მელა ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ
השועל החום המהיר קפץ מעל הכלב העצלן שָׁלוֹם עֲלֵיכֶם
الثعلب البني السريع يقفز فوق الكلب الكسول؛ مَرْحَبًا ﷺ ١٢٣
روباه قهوه‌ای سریع می‌پرد، کتاب‌ها
تیز بھورا لومڑ کود گیا۔
ܫܠܡܐ ܥܠܟܘܢ
तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है। क्षत्रिय १२३
দ্রুত বাদামী শিয়াল অলস কুকুরের উপর লাফ দেয়। কো কৌ
ਤੇਜ਼ ਭੂਰੀ ਲੂੰਬੜੀ
ઝડપી બ્રાઉન શિયાળ
ଦ୍ରୁତ ବାଦାମୀ ଶିଆଳ ୋ ୌ
விரைவான பழுப்பு நரி கொ கோ கௌ
వేగవంతమైన గోధుమ నక్క ై
ತ್ವರಿತ ಕಂದು ನರಿ ೋ
വേഗത്തിലുള്ള തവിട്ട് കുറുക്കൻ ൊ
දුඹුරු නරියා ශ්‍රී ලංකා ෝ ෞ
สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามหมาขี้เกียจ น้ำ
ໝາຈອກສີນ້ຳຕານ
မြန်မာဘာသာစကား
កញ្ជ្រោងពណ៌ត្នោត ខ្មែរ
བོད་ཡིག་ ཀྵ གྷ
ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ᠌᠎
敏捷的棕色狐狸跳过懒狗。中文，测试！２０２６年
敏捷的棕色狐狸跳過懶狗 㐀㐁 𠀀𠀁 豈更車 丽
素早い茶色の狐がのろまな犬を飛び越える。ガギグ がぎぐ ｶﾞｷﾞ カ゛
빠른 갈색 여우가 게으른 개를 뛰어넘는다. 각 힣 ᄀᆞ
ፈጣኑ ቡናማ ቀበሮ፣ ሰላም።
ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ꭰꭱꭲ
ᐃᓄᒃᑎᑐᑦ
ⵜⴰⵎⴰⵣⵉⵖⵜ
ߒߞߏ ߞߊ߲߬
Ⰳⰾⰰⰳⱁⰾⰻⱌⰰ 𐐀𐐁𐐨 𐌰𐌱 𒀀𒀁 𓀀𓀁
ᚠᚢᚦᚨᚱᚲ ᚛ᚑᚌᚐᚋ᚜
ꦧꦱꦗꦮ ᬩᬮᬶ ᨅᨔ
ދިވެހި ބަސް
😀😃😄 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ☕️ ❤️ 1️⃣
hello😀world fire🔥fire ©®™ €£¥₹₿ ½¾ ² ³ ⅷ № ℃ Å Ω K
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β ≠ ≤ ≥ ∑∏∫ √2 ∞
𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕬𝖇𝖈 𝓗𝓮𝓵𝓵𝓸 ＦＵＬＬＷＩＤＴＨ ⓒⓘⓡⓒⓛⓔ
“curly” ‘quotes’ «guillemets» „low“ … – — ― ‐ ‑ · • ‹›
[SEP] in text, [CLS][MASK] [PAD][UNK] [sep] [ SEP ] [SEP [[SEP]] x[MASK]y
[unused1] [unused99] ##ing ## # [CLS
¿Qué tal? ¡Hola! ñandú ª º
Ünïcödé zàlgö: H̷̢̛͉e̴̡̛l̶̨l̵o̴ Z͑ͫ̓ͪ̂A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́
"""

PIECES = [
    "\x00", "a\x00b", "\x01\x02\x03", "a\x07b", "\x7f", "\x80\x85\x9f", "a\x85b", "\t\n\r", "a\tb\nc\rd\x0be\x0cf",
    " ", "   ", "", "a", "Z", "[", "]", "[]", "\xa0a\xa0b", "\u2028a\u2029b", "\u3000a\u3000", "\u1680x\u180ey",
    "zero\u200bwidth\u200cnon\u200djoin\u2060er\ufeff", "\xadsoft\xadhyphen", "\u202eright\u202c to left", "\ufffd", "a\ufffdb",
    "\ue000private\U000f0000use\U0010fffd", "\uffff\ufffe\U0010ffff", "a\u0301\u0327\u0328", "\u0301", " \u0301a",
    "\u1e9b\u0323", "q\u0307\u0323", "\u212b\u2126\u212a", "\u0344", "\u0958\u09dc\u0a59", "\u1100\u1161\u11a8", "\uac00\u11a7",
    "\u302a\u302e\u302f", "x\u302f\u302ey", "x\U0001d165\U0001d16dy", "\U0001d16d\U0001d165", "\U0001d15e\U0001d160", "x\U0001d16d\u0300\U0001d165",
    "x\U0001d16d\u093f\U0001d165", "x\U0001d16d\u0488\U0001d165", "\u4e2d\u0301\u6587", "\uf900\u302e", "\u061d\u0890\u0898\u089f", "\u2e53\u2e5d", "\U00011241",
    "\u2ebf\u3007\u3400\u4dbf\u4dc0\u4e00\u9fff\ua000\uf900\ufaff", "\U0002a6df\U0002a700\U0002b73f\U0002b740\U0002b81f\U0002b820\U0002b920\U0002ceaf\U0002ceb0\U0002f800\U0002fa1f\U00030000",
    "a" * 99, "a" * 100, "a" * 101, "\u0430" * 100, "\u0430" * 101, "\U00010400" * 100, "\U00010400" * 101, "x" * 1000, "\uac00" * 33, "\uac00" * 50, "\uac00" * 51,
    "\U0001d165" * 100, "\U0001d16d\U0001d165" * 50, "\U0001d16d\U0001d165" * 51, "e\u0301" * 100, "e\u0301" * 101, "a\x00" * 101, "!" * 50, "\u4e2d" * 50, "supercalifragilistic" * 5,
    "\u0130\u0131\u017f", "\u1e9e", "\ufb01\ufb02", "\u01c4\u01c5\u01c6", "\u03a3\u03c2\u03c3", "\u13a0\uab70", "\u1c90\u10d0", "\u2160\u2170", "\u24b6",
    "[SEP]", "[CLS][SEP]", "[SEP][SEP]", "a[SEP]b", "[SE\u0301P]", "[S\x00EP]", "[MASK].", " [MASK] ", "[PAD", "[UNK]]", "\u0301[SEP]\u0301", "[Sep]", "[mask]",
]

# Bytes that are no UTF-8: stray and missing continuations, overlong forms,
# surrogates, beyond U+10FFFF, a cut character, a byte amid a special token.
RAW = [
    b"\xff", b"\xfe\xff", b"a\x80b", b"caf\xe9", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82z", b"\xf0\x9f\x98", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\xaf",
    b"\xed\xa0\x80", b"x\xed\xbf\xbfy", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"ok \xff\xfe [SEP] \x80", b"[S\xffEP]", b"\xff[SEP]\xff", b"a" * 50 + b"\xff" + b"a" * 51,
    b"na\xc3\xafve \xc3", b"\x00\xff\x00", b"\xe4\xb8\xad\xe4\xb8", "über".encode("latin-1"), "текст".encode("cp1251"), "日本".encode("shift_jis"), "한국".encode("utf-16"),
]

# Blocks from which mixed strings are drawn.
RANGES = [
    (0x20, 0x7E), (0x00, 0x20), (0xA0, 0x17F), (0x180, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x5FF), (0x600, 0x77F), (0x8A0, 0x97F),
    (0x980, 0xDFF), (0xE00, 0xFFF), (0x1000, 0x137F), (0x1680, 0x18AF), (0x1AB0, 0x1AFF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x23FF), (0x2500, 0x2BFF), (0x2E00, 0x30FF),
    (0x4E00, 0x4EFF), (0xA640, 0xA6FF), (0xAC00, 0xACFF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFFFF), (0x10000, 0x107FF), (0x1D100, 0x1D1FF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0xE0000, 0xE007F),
]


def mixed(rng: random.Random) -> str:
    out = []
    for _ in range(rng.randint(1, 12)):
        lo, hi = rng.choice(RANGES)
        out += [chr(rng.randint(lo, hi)) for _ in range(rng.randint(1, 6))]
        out.append(rng.choice(["", "", " ", "e", "\u0301", "[SEP]", ","]))
    return "".join(out)


def cased() -> Tokenizer:
    """A tokenizer that keeps case and accents, with pieces of one character."""
    brackets = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [chr(c) for c in range(0x21, 0x7F)] + list("éÉßжЖ中한e\u0301ﬁ😀")
    vocab = list(dict.fromkeys(brackets + pieces + ["##" + p for p in pieces]))
    tok = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocab)}, unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=False)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.add_special_tokens(brackets)
    tok.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tok


def digest(tok: Tokenizer, texts) -> str:
    h = hashlib.sha256()
    for text in texts:
        ids = tok.encode(text).ids
        h.update(struct.pack(f"<{len(ids)}i", *ids))
    return h.hexdigest()


def main(folder: str) -> None:
    tok = minilm.tokenizer()
    rng = random.Random(1)
    raw = [s.encode() for s in SENTENCES.strip().split("\n") + PIECES]
    raw += [s.encode() for s in (SENTENCES, SENTENCES.upper())] + RAW
    raw += [mixed(rng).encode() for _ in range(150)]
    cases = [
        {"text": base64.b64encode(b).decode(), "ids": tok.encode(b.decode("utf-8", "replace")).ids} for b in raw
    ]
    points = ["a" + chr(c) + "B" for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    out = pathlib.Path(folder)
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    (out / "vectors.json").write_text(f'{{"code_points":"{digest(tok, points)}","cases":[\n{lines}\n]}}\n')
    tok = cased()
    small = {
        "vocab": sorted(tok.get_vocab(), key=tok.get_vocab().get),
        "code_points": digest(tok, points),
        "cases": digest(tok, [b.decode("utf-8", "replace") for b in raw]),
    }
    (out / "cased.json").write_text(json.dumps(small) + "\n")
    vocab = (minilm.model_dir() / "vocab.txt").read_bytes()
    (out / "vocab.txt.gz").write_bytes(gzip.compress(vocab, 9, mtime=0))
    print(len(cases), "cases")


if __name__ == "__main__":
    main(sys.argv[1])
