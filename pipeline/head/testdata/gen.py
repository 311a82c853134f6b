"""Writes vectors.json: the skip-connection head in float64 by NumPy.

    python3 gen.py

The gradients of sum(c * y) are central differences.
"""
import json
import pathlib

import numpy as np

rng = np.random.default_rng(11)
D, N = 5, 4


def f32(x):
    return np.asarray(x, np.float32).astype(np.float64)


def head(p, layers):
    x = p["x"]
    for i in range(layers):
        z = x @ p[f"fc.{i}.weight"].T + p[f"fc.{i}.bias"]
        x = z / (1 + np.exp(-p[f"gates.{i}"])) + x
    return x


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


cases = []
for layers in (1, 3):
    p = {"x": f32(rng.normal(size=(N, D)))}
    for i in range(layers):
        p[f"fc.{i}.weight"] = f32(rng.normal(size=(D, D)))
        p[f"fc.{i}.bias"] = f32(rng.normal(size=D))
        p[f"gates.{i}"] = f32(rng.normal(size=D) - 1)
    c = f32(rng.normal(size=(N, D)))
    f = lambda: (c * head(p, layers)).sum()
    cases.append(dict(
        layers=layers, values={k: v.ravel().tolist() for k, v in p.items()}, c=c.ravel().tolist(),
        y=head(p, layers).ravel().tolist(), grads={k: grad(f, v).ravel().tolist() for k, v in p.items()}))


def rounded(x):
    if isinstance(x, float):
        return float(f"{x:.9g}")
    if isinstance(x, list):
        return [rounded(v) for v in x]
    return {k: rounded(v) for k, v in x.items()} if isinstance(x, dict) else x


path = pathlib.Path(__file__).with_name("vectors.json")
path.write_text(json.dumps(rounded(cases), separators=(",", ":")) + "\n")
