"""Distils all-MiniLM-L6-v2 into the artefact of encode/static.

usage: python distill.py OUTPUT

Every token t of the vocabulary goes through the model as "[CLS] t [SEP]"; its
vector is the last hidden state at t plus 1.5 times that at [CLS]. A principal
component analysis over the tokens, with the mean removed, leaves 256 of 384
dimensions; each is divided by the fourth root of its variance, halfway to
equal variances. A text's embedding is the sum of its tokens' vectors, each weighted by
a / (a + p(t)) (Arora, Liang and Ma, A Simple but Tough-to-Beat Baseline for
Sentence Embeddings, 2017), where p follows Zipf's law over the token's rank in
the vocabulary. Rows are stored as int8 with a scale, into which the weight is
multiplied. [unused] tokens, which no text has, are left out; the other special
tokens have weight 0.

Layout, little endian: "PFSTATIC", uint32 rows, uint32 dimensions, uint32 bytes
of the vocabulary; a row of bytes (value + 128) per token, a uint16 scale per
token, and the vocabulary, a token a line, in raw DEFLATE.
"""

import hashlib
import pathlib
import re
import struct
import sys
import zlib

import numpy as np

import minilm

DIM = 256
CLS_SHARE = 1.5
WHITENING = 0.5  # 0: none, 1: equal variances
SIF = 5e-5
FIRST_WORD = 999  # id of the first token that is no special one


def token_vectors(model: minilm.MiniLM, size: int) -> np.ndarray:
    cls, sep = 101, 102
    out = np.empty((size, 384), np.float32)
    for at in range(0, size, 512):
        ids = np.array([[cls, i, sep] for i in range(at, min(size, at + 512))])
        h = model.hidden(ids)
        out[at : at + 512] = h[:, 1] + np.float32(CLS_SHARE) * h[:, 0]
    return out


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
    rows = project(token_vectors(minilm.MiniLM(), len(vocab))[ids])
    quanta, scales = quantize(rows, np.where(ids < FIRST_WORD, 0, frequency_weights(ids, len(vocab))))
    words = deflate("".join(vocab[i] + "\n" for i in ids).encode())
    data = b"PFSTATIC" + struct.pack("<3I", len(ids), DIM, len(words)) + quanta.tobytes() + scales.tobytes() + words
    pathlib.Path(output).write_bytes(data)
    print(f"{len(ids)} tokens, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main(sys.argv[1])
