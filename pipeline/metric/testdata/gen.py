"""Writes vectors.json: retrieval metrics by sorting, with NumPy.

    python3 gen.py

All values are -1, 0 or 1, so that similarities tie exactly.
"""
import json
import pathlib

import numpy as np

rng = np.random.default_rng(17)


def metrics(x, relevant):
    n = len(x)
    norms = np.linalg.norm(x, axis=1)
    unit = x / np.where(norms == 0, 1, norms)[:, None]
    similarity = np.round(unit @ unit.T, 6)  # what ties in theory ties here
    p1, p3, rr, queries = 0.0, 0.0, 0.0, 0
    for q in range(n):
        if not relevant[q]:
            continue
        queries += 1
        # On a tie what is not relevant comes first.
        order = sorted((j for j in range(n) if j != q), key=lambda j: (-similarity[q, j], j in relevant[q]))
        hits = [j in relevant[q] for j in order]
        p1 += sum(hits[:1]) / 1
        p3 += sum(hits[:3]) / 3
        rr += 1 / (1 + hits.index(True))
    values = {"retrieval_precision@1": p1, "retrieval_precision@3": p3, "reciprocal_rank": rr}
    return queries, {k: v / max(queries, 1) for k, v in values.items()}


cases = []
for n, dim in ((12, 3), (30, 4), (40, 2)):
    x = rng.integers(-1, 2, size=(n, dim)).astype(float)
    x[1] = 0
    labels = rng.integers(0, n // 3, size=n)
    groups = [{j for j in range(n) if j != i and labels[j] == labels[i]} for i in range(n)]
    queries, values = metrics(x, groups)
    cases.append(dict(x=x.tolist(), labels=labels.tolist(), queries=queries, values=values))
    a, b = rng.integers(0, n, size=n // 2), rng.integers(0, n, size=n // 2)
    partners = [set() for _ in range(n)]
    for i, j in zip(a, b):
        if i != j:
            partners[i].add(j)
            partners[j].add(i)
    queries, values = metrics(x, partners)
    cases.append(dict(x=x.tolist(), a=a.tolist(), b=b.tolist(), queries=queries, values=values))
path = pathlib.Path(__file__).with_name("vectors.json")
path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
