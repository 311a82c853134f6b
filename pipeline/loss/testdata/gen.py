"""Writes vectors.json: losses and their gradients in float64 by NumPy.

    python3 gen.py

Gradients are central differences, so nothing of the Go code's derivation is
in them. Inputs are rounded to float32 first.
"""
import json
import pathlib

import numpy as np

rng = np.random.default_rng(7)


def f32(x):
    return np.asarray(x, np.float32).astype(np.float64)


def grad(f, x, h=1e-5):
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        old = x[i]
        x[i] = old + h
        up = f()
        x[i] = old - h
        g[i] = (up - f()) / (2 * h)
        x[i] = old
    return g


def unit(x):
    n = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(n == 0, 1, n)


def cross_entropy(logits, keep):
    total = 0.0
    for i, row in enumerate(logits):
        kept = row[keep[i]]
        total += np.log(np.exp(kept - kept.max()).sum()) + kept.max() - row[i]
    return total / len(logits)


def mnr(a, b, scale, symmetric, quaterion, aids, bids):
    cos = unit(a) @ unit(b).T
    n = len(a)
    logits = scale * ((cos + 1) / 2 if quaterion else cos)
    keep = np.ones((n, n), bool)
    for i in range(n):
        for j in range(n):
            if i != j and not quaterion:
                same = (aids and aids[i] == aids[j]) or (bids and bids[i] == bids[j])
                keep[i, j] = not same
    loss = cross_entropy(logits, keep)
    if symmetric:
        loss = (loss + cross_entropy(logits.T, keep.T)) / 2
    return loss


def softmax(e, w, labels, temperature):
    logits = e @ w / temperature
    top = logits.max(1)
    lse = np.log(np.exp(logits - top[:, None]).sum(1)) + top
    return (lse - logits[np.arange(len(e)), labels]).mean()


cases = {"mnr": [], "softmax": []}
ids = {
    "distinct": (None, None),
    "equal second sides": (list(range(10, 17)), [1, 2, 1, 3, 1, 4, 4]),
    "equal first sides": ([5, 5, 6, 7, 8, 9, 9], None),
    "both": ([1, 1, 2, 2, 3, 4, 5], [6, 7, 8, 8, 9, 9, 9]),
    "all equal": ([1] * 7, [2] * 7),
}
for name, (aids, bids) in ids.items():
    for symmetric in (False, True):
        for variant in ("", "quaterion"):
            for scale in (20.0, 3.5):
                a, b = f32(rng.normal(size=(7, 5))), f32(rng.normal(size=(7, 5)))
                f = lambda: mnr(a, b, scale, symmetric, variant == "quaterion", aids, bids)
                cases["mnr"].append(dict(
                    name=name, symmetric=symmetric, variant=variant, scale=scale, aids=aids, bids=bids,
                    a=a.tolist(), b=b.tolist(), loss=f(), da=grad(f, a).tolist(), db=grad(f, b).tolist()))
for temperature in (0.05, 1.0):
    e, w = f32(0.2 * rng.normal(size=(6, 4))), f32(0.3 * rng.normal(size=(4, 3)))
    labels = [0, 2, 1, 1, 0, 2]
    f = lambda: softmax(e, w, labels, temperature)
    cases["softmax"].append(dict(
        temperature=temperature, labels=labels, e=e.tolist(), kernel=w.tolist(),
        loss=f(), de=grad(f, e).tolist(), dkernel=grad(f, w).tolist()))


def rounded(x):
    if isinstance(x, float):
        return float(f"{x:.9g}")
    if isinstance(x, list):
        return [rounded(v) for v in x]
    return {k: rounded(v) for k, v in x.items()} if isinstance(x, dict) else x


path = pathlib.Path(__file__).with_name("vectors.json")
path.write_text(json.dumps(rounded(cases), separators=(",", ":")) + "\n")
