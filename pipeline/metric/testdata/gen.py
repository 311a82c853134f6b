"""Writes vectors.json: metrics by sorting, in float64 with NumPy.

    python3 gen.py

All embeddings are of small whole numbers, so that similarities tie exactly.
Quaterion's variants are transcribed from its eval/pair/ and eval/group/
metrics: the reciprocal ranks of all relevant objects, and all cells of the
relevant ones' first R ranks, each in one mean.
"""
import json
import pathlib

import numpy as np

rng = np.random.default_rng(17)


def cosine(x):
    norms = np.linalg.norm(x, axis=1)
    unit = x / np.where(norms == 0, 1, norms)[:, None]
    return np.round(unit @ unit.T, 6)  # what ties in theory ties here


def dcg(hits):
    return sum(h / np.log2(i + 2) for i, h in enumerate(hits))


def retrieval(x, relevant):
    """Means over queries of each metric; those of the variants over cells."""
    similarity = cosine(x)
    per_query, all_ranks, all_cells = {}, [], []
    for q in range(len(x)):
        if not relevant[q]:
            continue
        # On a tie what is not relevant comes first.
        order = sorted((j for j in range(len(x)) if j != q), key=lambda j: (-similarity[q, j], j in relevant[q]))
        hits = np.array([float(j in relevant[q]) for j in order])
        r = int(hits.sum())
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        values = {"reciprocal_rank": 1 / (1 + np.argmax(hits)), "r_precision": hits[:r].mean()}
        for k in (1, 3):
            values[f"retrieval_precision@{k}"] = hits[:k].sum() / k
        for k in (2, 10):
            values[f"recall@{k}"] = hits[:k].sum() / r
        for k in (1, 4, 10):
            values[f"ndcg@{k}"] = dcg(hits[:k]) / dcg(np.sort(hits)[::-1][:k])
        values["map"] = (precision * hits).sum() / r
        values["map@3"] = (precision * hits)[:3].sum() / min(r, 3)
        for name, v in values.items():
            per_query.setdefault(name, []).append(v)
        all_ranks += [1 / (i + 1) for i in np.flatnonzero(hits)]
        all_cells += list(hits[:r])
    names = ["reciprocal_rank", "r_precision", "retrieval_precision@1", "retrieval_precision@3", "recall@2",
             "recall@10", "ndcg@1", "ndcg@4", "ndcg@10", "map", "map@3"]
    means = {n: float(np.mean(per_query[n])) if n in per_query else 0.0 for n in names}
    means["reciprocal_rank:quaterion"] = float(np.mean(all_ranks)) if all_ranks else 0.0
    means["r_precision:quaterion"] = float(np.mean(all_cells)) if all_cells else 0.0
    return len(per_query.get("map", [])), means


def ranks(v):
    """Ranks from 1; equal values share the mean of theirs."""
    v = np.asarray(v)
    return np.array([(v < a).sum() + ((v == a).sum() + 1) / 2 for a in v])


def spearman(x, a, b, scores):
    similarity = cosine(x)[a, b]
    if len(set(similarity)) == 1:
        return 0.0
    return float(np.corrcoef(ranks(scores), ranks(similarity))[0, 1])


def groups(name, x, labels):
    relevant = [{j for j in range(len(x)) if j != i and labels[j] == labels[i]} for i in range(len(x))]
    queries, values = retrieval(x, relevant)
    cases.append(dict(name=name, x=x.tolist(), labels=[int(l) for l in labels], queries=queries, values=values))


def pairs(name, x, a, b, scores):
    partners = [set() for _ in x]
    for i, j, s in zip(a, b, scores):
        if i != j and s > 0:
            partners[i].add(j)
            partners[j].add(i)
    queries, values = retrieval(x, partners)
    if len(set(scores)) > 1:
        values["spearman"] = spearman(x, a, b, scores)
    cases.append(dict(name=name, x=x.tolist(), a=[int(i) for i in a], b=[int(j) for j in b],
                      scores=[float(s) for s in scores], queries=queries, values=values))


cases = []
for n, dim in ((12, 3), (30, 4), (40, 2)):
    x = rng.integers(-1, 2, size=(n, dim))
    x[1] = 0
    groups(f"groups of {n}", x, rng.integers(0, n // 3, size=n))
    a, b = rng.integers(0, n, size=n // 2), rng.integers(0, n, size=n // 2)
    pairs(f"pairs of {n}", x, a, b, [1] * len(a))
    pairs(f"scored pairs of {n}", x, a, b, rng.integers(0, 5, size=len(a)) / 4)
x = rng.integers(-2, 3, size=(14, 3))
groups("one group", x, [0] * 14)
groups("no positives", x, range(14))
groups("all equal", np.ones((14, 3), int), rng.integers(0, 3, size=14))
groups("one group, all equal", np.ones((14, 3), int), [0] * 14)
pairs("all equal", np.ones((14, 3), int), range(7), range(7, 14), range(7))
pairs("no positive pair", x, range(7), range(7, 14), -rng.integers(0, 3, size=7))
path = pathlib.Path(__file__).with_name("vectors.json")
path.write_text("[" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "]\n")
