"""Measures an artefact of encode/static by retrieval over a file of pairs.

usage: python measure.py ARTEFACT PAIRS.jsonl SPLIT.json [--teacher] [--train]

PAIRS has an object with "question" and "answer" a line, SPLIT is
{"train": [line, ...], "val": [line, ...]}. Every question and answer of the
val split is a query over all others; its partner is what is to be found.
Printed are the share of queries whose nearest object is the partner (P@1) and
the mean of 1 / the partner's rank (RR), by cosine. --teacher measures the
model itself, too; --train trains a skip-connection head on the train split
first (multiple negatives ranking, symmetric, scale 20, Adam 1e-3, batches of
1024, 60 epochs) and measures before and after.
"""

import argparse
import json

import numpy as np

import minilm
from twin import Static


def metrics(e: np.ndarray) -> str:
    """Returns P@1 and RR; the partner of row i is row i + n/2."""
    n = len(e) // 2
    i = np.arange(2 * n)
    s = e @ e.T
    s[i, i] = -np.inf
    rank = 1 + (s > s[i, (i + n) % (2 * n)][:, None]).sum(1)
    return f"P@1 {(rank == 1).mean():.4f}  RR {(1 / rank).mean():.4f}"


def unit(x):
    n = np.linalg.norm(x, axis=1, keepdims=True)
    return x / n, n


def train_head(train: np.ndarray, val: np.ndarray, epochs=60, batch=1024, lr=1e-3, scale=20.0):
    """Trains y = x + sigmoid(g) * (x W + b), with g from -4, and returns the unit vectors of val under it."""
    rng = np.random.default_rng(0)
    d, n = train.shape[1], len(train) // 2
    bound = 1 / np.sqrt(d)
    w = rng.uniform(-bound, bound, (d, d)).astype(np.float32)
    params = [w, rng.uniform(-bound, bound, d).astype(np.float32), np.full(d, -4, np.float32)]
    m, v, step = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params], 0

    def forward(x):
        z = x @ params[0] + params[1]
        gate = 1 / (1 + np.exp(-params[2]))
        y, length = unit(x + z * gate)
        return y, length, z, gate

    for _ in range(epochs):
        order = rng.permutation(n)
        for at in range(0, n, batch):
            part = order[at : at + batch]
            x = np.concatenate([train[part], train[part + n]])
            y, length, z, gate = forward(x)
            k = len(part)
            s = scale * (y[:k] @ y[k:].T)
            g = softmax(s, k) + softmax(s.T, k).T
            g *= scale / (2 * k)
            dy = np.concatenate([g @ y[k:], g.T @ y[:k]])
            dx = (dy - y * (dy * y).sum(1, keepdims=True)) / length
            dz = dx * gate
            step += 1
            for i, grad in enumerate((x.T @ dz, dz.sum(0), (dx * z).sum(0) * gate * (1 - gate))):
                m[i] = 0.9 * m[i] + 0.1 * grad
                v[i] = 0.999 * v[i] + 0.001 * grad * grad
                params[i] -= lr * (m[i] / (1 - 0.9**step)) / (np.sqrt(v[i] / (1 - 0.999**step)) + 1e-8)
    return forward(val)[0]


def softmax(s, k):
    """Returns the gradient of the cross entropy of rows whose answer is on the diagonal."""
    p = np.exp(s - s.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(k), np.arange(k)] -= 1
    return p


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("artefact")
    args.add_argument("pairs")
    args.add_argument("split")
    args.add_argument("--teacher", action="store_true")
    args.add_argument("--train", action="store_true")
    a = args.parse_args()
    rows = [json.loads(line) for line in open(a.pairs)]
    split = json.load(open(a.split))

    def texts(name):
        part = [rows[i] for i in split[name]]
        return [r["question"] for r in part] + [r["answer"] for r in part]

    static = Static(a.artefact)
    val = static.encode(texts("val"))
    print("static, raw:  ", metrics(val))
    if a.train:
        print("static, tuned:", metrics(train_head(static.encode(texts("train")), val)))
    if a.teacher:
        ids = [e.ids for e in static.tok.encode_batch(texts("val"))]
        print("teacher, raw: ", metrics(minilm.MiniLM().sentences(ids)))


if __name__ == "__main__":
    main()
