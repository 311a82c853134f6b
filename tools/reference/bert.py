"""Models and reference embeddings for the tests of encode/bert, by sentence-transformers.

usage: python bert.py tiny OUTPUT

makes a tiny random model of every supported kind in a folder of OUTPUT, each
with its embeddings of the texts in OUTPUT/texts.json as reference.f32. Equal
versions of the packages in requirements.txt give equal files.

usage: python bert.py real MODEL FAQ.jsonl OUTPUT

writes the texts of the first 1,000 rows of FAQ.jsonl (2,000 questions and
answers), hard strings, and their embeddings by the model in the folder MODEL
to the folder OUTPUT: texts.json, a list of base64, and reference.f32, float32
little endian.
"""

import base64
import json
import pathlib
import random
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "distill"))
import bytebpe  # noqa: E402
import vectors  # noqa: E402


def hard() -> list[bytes]:
    """Texts that are hard for a tokenizer, or of special lengths."""
    rng = random.Random(2)
    texts = [s.encode() for s in vectors.SENTENCES.strip().split("\n") + vectors.PIECES] + vectors.RAW
    texts += [vectors.mixed(rng).encode() for _ in range(110)]
    texts += [b"word " * n for n in (1, 2, 62, 63, 126, 127, 253, 254, 255, 256, 510, 511, 512, 513, 3000)]
    texts += [vectors.SENTENCES.encode(), vectors.SENTENCES.upper().encode(), b"a\n" * 300]
    return texts


def decoded(texts: list[bytes]) -> list[str]:
    return [t.decode("utf-8", "replace") for t in texts]


def save(folder: pathlib.Path, texts: list[bytes], vecs: np.ndarray) -> None:
    vecs = np.ascontiguousarray(vecs.astype("<f4"))
    assert np.isfinite(vecs).all() and len(vecs) == len(texts)
    (folder / "reference.f32").write_bytes(vecs.tobytes())


# The pieces of the tiny vocabularies, besides single characters.
PIECES = """
the cache keep ##s of frozen en ##cod ##er ##ing embed ##ding once text batch ##es row and a token no pad
word ##piece Model Kept Éclair é ß ж Ж 中 文 ки ##ша न म ##ा ه ##م 가 ##나 e ##́ ﬁ 😀 ##😀 ½
""".split()


def words(pad: str, unk: str, cls: str, sep: str, mask: str) -> list[str]:
    chars = [chr(c) for c in range(0x21, 0x7F)]
    letters = [c for c in chars if c.isalnum()]
    return list(dict.fromkeys([cls, pad, sep, unk, mask] + chars + ["##" + c for c in letters] + PIECES))


def tiny(output: str) -> None:
    import shutil

    import torch
    import transformers as tf
    from sentence_transformers import SentenceTransformer
    from sentence_transformers import models as modules

    out = pathlib.Path(output)
    out.mkdir(parents=True, exist_ok=True)
    texts = tiny_texts()
    (out / "texts.json").write_text(json.dumps([base64.b64encode(t).decode() for t in texts]) + "\n")
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 48}
    distil = {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 48}
    bert = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    mpnet = {"pad": "<pad>", "unk": "[UNK]", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}

    def build(name: str, make, tokenizer, names: dict, *, lower=True, pooling="mean", dtype=torch.float32, max_length=None, steps=(), extra=()):
        torch.manual_seed(sum(name.encode()))
        vocab = words(**names)
        vocab = {t: i for i, t in enumerate(vocab)}
        tok = tokenizer(vocab=vocab, do_lower_case=lower, model_max_length=48)
        model = make(len(vocab))
        with torch.no_grad():
            for key, p in model.named_parameters():
                p.normal_(1 if "norm.weight" in key.lower() else 0, 0.25)
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        plain = out / (name + ".tmp")
        model.to(dtype).save_pretrained(plain)
        tok.save_pretrained(plain)
        transformer = modules.Transformer(str(plain), max_seq_length=max_length, model_kwargs={"dtype": torch.float32})
        st = SentenceTransformer(modules=[transformer, modules.Pooling(24, pooling_mode=pooling), *steps], device="cpu")
        st.eval()
        vecs = st.encode(decoded(texts), convert_to_numpy=True, batch_size=1)
        st.save(str(folder), create_model_card=False)
        # With the dtype and the names of tensors as they were, which sentence-transformers would change.
        model.save_pretrained(folder)
        shutil.rmtree(plain)
        if "tensors" in extra:
            model.save_pretrained(folder, max_shard_size="20KB")
            (folder / "model.safetensors").unlink()
        if "vocab" in extra:
            (folder / "tokenizer.json").unlink()
            (folder / "vocab.txt").write_text("".join(t + "\n" for t in vocab))
        if "merges" in extra:
            t = json.loads((folder / "tokenizer.json").read_text())["model"]
            (folder / "tokenizer.json").unlink()
            (folder / "vocab.json").write_text(json.dumps(t["vocab"]))
            (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in t["merges"]))
        # The folder says the same as the model in memory.
        again = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
        if not np.allclose(again.encode(decoded(texts), batch_size=1), vecs, atol=1e-6):
            raise SystemExit(f"{name} is another model once it is saved")
        save(folder, texts, vecs)
        print(name, vecs.shape, sorted(p.name for p in folder.rglob("*") if p.is_file()))

    def roberta(vocab: dict, do_lower_case: bool, **kwargs):
        # Trained, since byte-level pieces are merged and not only looked up.
        t = json.loads(bytebpe.trained(300, decoded(texts)).to_str())["model"]
        vocab.clear()
        vocab.update(t["vocab"])
        return tf.RobertaTokenizer(vocab=t["vocab"], merges=[tuple(m) for m in t["merges"]], **kwargs)

    def dense(width: int, act) -> modules.Dense:
        d = modules.Dense(24, width, activation_function=act)
        with torch.no_grad():
            for p in d.parameters():
                p.normal_(0, 0.3)
        return d

    build("bert", lambda n: tf.BertModel(tf.BertConfig(vocab_size=n, pad_token_id=1, **size)), tf.BertTokenizer, bert, max_length=32, steps=[modules.Normalize()])
    build(
        "bert-cased-head",
        lambda n: tf.BertForMaskedLM(tf.BertConfig(vocab_size=n, hidden_act="gelu_new", type_vocab_size=1, layer_norm_eps=1e-5, **size)),
        tf.BertTokenizer, bert, lower=False, pooling="cls", dtype=torch.float16, extra=["vocab"],
    )  # fmt: skip
    build(
        "distilbert-dense",
        lambda n: tf.DistilBertModel(tf.DistilBertConfig(vocab_size=n, **distil)),
        tf.DistilBertTokenizer, bert, pooling="mean", dtype=torch.bfloat16, steps=[dense(16, torch.nn.Tanh()), dense_from(modules, torch, 16, 12), modules.Normalize()], extra=["tensors"],
    )  # fmt: skip
    build("distilbert-max", lambda n: tf.DistilBertModel(tf.DistilBertConfig(vocab_size=n, activation="relu", **distil)), tf.DistilBertTokenizer, bert, pooling="max", dtype=torch.float16)
    build("mpnet", lambda n: tf.MPNetModel(tf.MPNetConfig(vocab_size=n, **size | {"max_position_embeddings": 50})), tf.MPNetTokenizer, mpnet, dtype=torch.float16, steps=[modules.Normalize()])
    build(
        "roberta", lambda n: tf.RobertaModel(tf.RobertaConfig(vocab_size=n, type_vocab_size=1, layer_norm_eps=1e-5, **size | {"max_position_embeddings": 50})),
        roberta, mpnet, dtype=torch.float16, steps=[modules.Normalize()],
    )  # fmt: skip
    build(
        "roberta-prefix", lambda n: tf.RobertaForMaskedLM(tf.RobertaConfig(vocab_size=n, type_vocab_size=1, **size | {"max_position_embeddings": 50})),
        lambda **k: roberta(add_prefix_space=True, **k), mpnet, dtype=torch.bfloat16, pooling="lasttoken", extra=["merges"],
    )  # fmt: skip
    build(
        "bert-all-poolings",
        lambda n: tf.BertModel(tf.BertConfig(vocab_size=n, **size)),
        tf.BertTokenizer, bert, pooling=("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"), dtype=torch.float16,
    )  # fmt: skip


def dense_from(modules, torch, width: int, to: int):
    d = modules.Dense(width, to, bias=False, activation_function=torch.nn.Identity())
    with torch.no_grad():
        d.linear.weight.normal_(0, 0.3)
    return d


def tiny_texts() -> list[bytes]:
    """Some of the hard texts; the tiny models have pieces for single characters."""
    texts = hard()
    return texts[:40:2] + texts[40:130:6] + vectors.RAW[::5] + [b"a b " * n for n in (1, 5, 14, 15, 16, 22, 23, 24, 300)] + [
        b"the cache keeps embeddings of frozen encoders", "Éclair é Модель 中文 가나 नमा هم ½ 😀😀".encode(), b"[MASK] <mask> <pad> [PAD] pad <s></s>[SEP]",
    ]  # fmt: skip


def real(model: str, faq: str, output: str) -> None:
    from sentence_transformers import SentenceTransformer

    with open(faq, encoding="utf-8") as f:
        rows = [json.loads(next(f)) for _ in range(1000)]
    texts = [row[k].encode() for row in rows for k in ("question", "answer")] + hard()
    st = SentenceTransformer(model, device="cpu")
    out = pathlib.Path(output)
    out.mkdir(parents=True, exist_ok=True)
    (out / "texts.json").write_text(json.dumps([base64.b64encode(t).decode() for t in texts]))
    save(out, texts, st.encode(decoded(texts), convert_to_numpy=True))
    print(len(texts), "texts of which", len(texts) - 2000, "are hard, max length", st.max_seq_length)


if __name__ == "__main__":
    if sys.argv[1:2] == ["real"]:
        real(*sys.argv[2:])
    elif sys.argv[1:2] == ["tiny"]:
        tiny(*sys.argv[2:])
    else:
        raise SystemExit(__doc__)
