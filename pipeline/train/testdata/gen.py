"""Writes adam.json: 20 steps of Adam in float64 by NumPy.

    python3 gen.py

The update is written as in PyTorch's single-tensor Adam.
"""
import json
import pathlib

import numpy as np

rng = np.random.default_rng(13)
cases = []
for lr, b1, b2, eps in ((1e-3, 0.9, 0.999, 1e-8), (0.1, 0.5, 0.9, 1e-3)):
    w = rng.normal(size=6).astype(np.float32).astype(np.float64)
    # Sizes from 1e-6 to 100, and one that is always 0.
    grads = rng.normal(size=(20, 6)) * np.array([1e-6, 1e-3, 1, 10, 100, 0])
    grads = grads.astype(np.float32).astype(np.float64)
    first, m, v, steps = w.tolist(), np.zeros(6), np.zeros(6), []
    for t, g in enumerate(grads, 1):
        m += (g - m) * (1 - b1)
        v = b2 * v + (1 - b2) * g * g
        denominator = np.sqrt(v) / np.sqrt(1 - b2**t) + eps
        w = w - lr / (1 - b1**t) * m / denominator
        steps.append([float(f"{x:.9g}") for x in w])
    cases.append(dict(lr=lr, beta1=b1, beta2=b2, eps=eps, first=first, grads=grads.tolist(), steps=steps))
path = pathlib.Path(__file__).with_name("adam.json")
path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
