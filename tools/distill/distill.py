"""Distils all-MiniLM-L6-v2 into the artefact of encode/static.

usage: python distill.py OUTPUT

Every token t of the vocabulary goes through the model as "[CLS] t [SEP]"; the
last hidden states at t and at [CLS] are its features. A linear map from
features to the model's space is fitted by ridge regression so that the mean of
a text's mapped features predicts the model's embedding of the text; the texts
are random strings of tokens, so that no corpus is needed. The map of a token's
features is its vector. A principal component analysis over the tokens, with
the mean removed, leaves 256 of 384 dimensions, each divided by its variance to
the power of 0.3. A text's embedding is the sum of its tokens' vectors, each
weighted by a / (a + p(t)) (Arora, Liang and Ma, A Simple but Tough-to-Beat
Baseline for Sentence Embeddings, 2017), where p follows Zipf's law over the
token's rank in the vocabulary. Rows are stored as int8 with a scale, into
which the weight is multiplied. [unused] tokens, which no text has, are left
out; the other special tokens have weight 0.

Layout, little endian: "PFSTATIC", uint32 rows, uint32 dimensions, uint32 bytes
of the vocabulary; a row of bytes (value + 128) per token, a uint16 scale per
token, and the vocabulary, a token a line, in raw DEFLATE.
"""

import hashlib
import os
import pathlib
import re
import struct
import sys
import zlib

# Read when numpy is loaded: more threads would round some sums differently.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

import minilm

DIM = 256
WHITENING = 0.6  # 0: none, 1: equal variances
SIF = 8e-5
RIDGE = 0.1  # of the features' mean variance
FIRST_WORD = 999  # id of the first token that is no special one
CLS, SEP = 101, 102


def token_features(model: minilm.MiniLM, size: int) -> np.ndarray:
    """Returns two standardized hidden states of every token, [size, 768]."""
    out = np.empty((size, 2, 384), np.float32)
    for at in range(0, size, 512):
        ids = np.array([[CLS, i, SEP] for i in range(at, min(size, at + 512))])
        out[at : at + 512] = model.hidden(ids)[:, 1::-1]
    words = out[FIRST_WORD:]
    out -= words.mean(0)
    return (out / np.sqrt((words**2).sum(2).mean(0))[:, None]).reshape(size, -1)


def random_strings(model: minilm.MiniLM, size: int, batches: int = 75, batch: int = 80) -> tuple[list, np.ndarray]:
    """Returns strings of 4 to 19 tokens, frequent ones more often, and their embeddings."""
    rng = np.random.default_rng(1)
    words = np.arange(FIRST_WORD, size)
    p = (words - (FIRST_WORD - 1.0) + 1000) ** -0.5
    strings, embeddings = [], []
    for _ in range(batches):
        ids = rng.choice(words, size=(batch, int(rng.integers(4, 20))), p=p / p.sum())
        ends = np.full((batch, 1), CLS), np.full((batch, 1), SEP)
        h = model.hidden(np.concatenate([ends[0], ids, ends[1]], 1)).mean(1)
        embeddings.append(h / np.linalg.norm(h, axis=1, keepdims=True))
        strings += list(ids)
    return strings, np.concatenate(embeddings)


def fit(features: np.ndarray, strings: list, embeddings: np.ndarray) -> np.ndarray:
    """Returns the map [768, 384] from mean features of strings to embeddings, less their mean."""
    x = np.stack([features[ids].mean(0) for ids in strings]).astype(np.float64)
    y = embeddings - embeddings.mean(0, dtype=np.float64)
    g = x.T @ x
    return np.linalg.solve(g + RIDGE * g.trace() / len(g) * np.eye(len(g)), x.T @ y)


def project(vectors: np.ndarray) -> np.ndarray:
    """Returns the first DIM principal components of rows, partly whitened, as float64."""
    x = vectors.astype(np.float64)
    x -= x.mean(0)
    variance, q = np.linalg.eigh(x.T @ x / len(x))
    variance, q = variance[::-1][:DIM], q[:, ::-1][:, :DIM]
    # An eigenvector's sign is arbitrary: its largest value shall be positive.
    q *= np.sign(q[np.abs(q).argmax(0), np.arange(DIM)])
    return x @ q * variance ** (-WHITENING / 2)


def frequency_weights(ids: np.ndarray, size: int) -> np.ndarray:
    rank = np.maximum(ids - FIRST_WORD + 1, 1)
    p = 1 / (rank * np.log(size))
    return SIF / (SIF + p)


def quantize(rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns bytes and uint16 scales: row = (byte - 128) * scale, up to one common factor."""
    peak = np.abs(rows).max(1)
    quanta = np.rint(rows / peak[:, None] * 127).astype(np.int16) + 128
    scale = peak * weights
    return quanta.astype(np.uint8), np.rint(scale / scale.max() * 65535).astype("<u2")


def deflate(data: bytes) -> bytes:
    z = zlib.compressobj(9, zlib.DEFLATED, -15)
    return z.compress(data) + z.flush()


def main(output: str) -> None:
    vocab = (minilm.model_dir() / "vocab.txt").read_text().split("\n")[:-1]
    ids = np.array([i for i, t in enumerate(vocab) if not re.fullmatch(r"\[unused\d+\]", t)])
    model = minilm.MiniLM()
    features = token_features(model, len(vocab))
    rows = project((features @ fit(features, *random_strings(model, len(vocab))))[ids])
    quanta, scales = quantize(rows, np.where(ids < FIRST_WORD, 0, frequency_weights(ids, len(vocab))))
    words = deflate("".join(vocab[i] + "\n" for i in ids).encode())
    data = b"PFSTATIC" + struct.pack("<3I", len(ids), DIM, len(words)) + quanta.tobytes() + scales.tobytes() + words
    pathlib.Path(output).write_bytes(data)
    print(f"{len(ids)} tokens, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main(sys.argv[1])
