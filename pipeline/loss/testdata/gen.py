"""Writes vectors.json: losses and their gradients by PyTorch's autograd in float64.

    python3 gen.py

The formulas are written for clearness, as masks over all pairs and loops over
samples, from the papers and, for the variant "quaterion", from what Quaterion
0.1.35 computes. Inputs have three decimals and are rounded to float32 first.
Where a derivative is not unique the convention is the package's: 0 at a
distance of 0, for rows of zeros, at the corners of hinges and of histograms;
of equal values the first is the least or the greatest.
"""
import itertools
import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(7)
inputs = {}


def put(name, rows):
    inputs[name] = [[round(float(v), 3) for v in r] for r in rows]
    return name


def tensor(name):
    return torch.tensor(np.asarray(inputs[name], np.float32).astype(np.float64), requires_grad=True)


# Distances.


def unit(x):
    zero = (x == 0).all(1, keepdim=True)
    return torch.where(zero, torch.zeros(()), F.normalize(torch.where(zero, torch.ones(()), x)))


def root(s):
    return torch.where(s == 0, torch.zeros(()), torch.where(s == 0, torch.ones(()), s).sqrt())


def differences(kind, d):
    return root((d * d).sum(-1)) if kind == "euclidean" else d.abs().sum(-1)


def distance_matrix(kind, x, y, own):
    if kind == "cosine":
        return 1 - (unit(x) @ unit(y).T + (1 if own else 0)) / (2 if own else 1)
    if kind == "dot_product":
        return -x @ y.T
    return differences(kind, x[:, None] - y[None])


def similarity_matrix(kind, x, y, own):
    if kind in ("cosine", "dot_product"):
        return 1 - distance_matrix(kind, x, y, own) if kind == "cosine" else x @ y.T
    return 1 / (1 + distance_matrix(kind, x, y, own))


def pair_distance(kind, a, b, eps):
    if kind == "cosine":
        return 1 - (unit(a) * unit(b)).sum(1)
    if kind == "dot_product":
        return -(a * b).sum(1)
    return differences(kind, a - b + eps)


def pair_similarity(kind, a, b):
    d = pair_distance(kind, a, b, 0)
    return 1 - d if kind == "cosine" else -d if kind == "dot_product" else 1 / (1 + d)


def hinge(x):
    return torch.where(x > 0, x, torch.zeros(()))


def first_max(row, places):
    return max(places, key=lambda j: (row[j].item(), -j))


def first_min(row, places):
    return min(places, key=lambda j: (row[j].item(), j))


def mean(terms):
    return sum(terms) / len(terms) if terms else torch.zeros(())


# Losses of groups: of anchors against others. `others` is None for the batch itself.


class Groups:
    def __init__(self, batch, past=None):
        self.x = batch["x"]
        self.labels, self.ids = batch["labels"], batch.get("aids")
        self.self = past is None
        if past is None:
            past = batch
        self.y = past["x"]
        self.other_labels, self.other_ids = past["labels"], past.get("aids")

    def relation(self, own):
        """Two masks as lists of lists: positive, negative."""
        p = [[False] * len(self.other_labels) for _ in self.labels]
        n = [[False] * len(self.other_labels) for _ in self.labels]
        # Quaterion takes batches of equal labels for one.
        one = self.self or own and list(self.labels) == list(self.other_labels)
        for i, a in enumerate(self.labels):
            for j, b in enumerate(self.other_labels):
                same = one and i == j
                if not own and self.ids is not None and self.ids[i] == self.other_ids[j]:
                    same = True
                if not same:
                    (p if a == b else n)[i][j] = True
        return p, n


def places(mask):
    return [j for j, v in enumerate(mask) if v]


def triplet(g, margin=0.5, distance="cosine", mining="hard", soft=False, variant="", **_):
    own = variant != ""
    d = distance_matrix(distance, g.x, g.y, own)
    p, n = g.relation(own)
    term = (lambda t: F.softplus(t)) if soft else (lambda t: hinge(t + margin))
    rows = range(len(d))
    if mining == "all":
        if own and not g.self:
            return torch.zeros(())
        diffs = [d[i, a] - d[i, b] for i in rows for a in places(p[i]) for b in places(n[i])]
        if soft and not own:
            return mean([F.softplus(t) for t in diffs])
        return mean([t + margin for t in diffs if t.item() + margin > 0])
    if mining == "hard" and not own:
        return mean([term(d[i, first_max(d[i], places(p[i]))] - d[i, first_min(d[i], places(n[i]))])
                     for i in rows if any(p[i]) and any(n[i])])
    if mining == "hard":
        pos, neg = torch.tensor(p, dtype=torch.float64), torch.tensor(n, dtype=torch.float64)
        pd = pos * d
        hp = torch.stack([pd[i, first_max(pd[i], range(len(d[i])))] for i in rows])
        nd = d + torch.stack([r[first_max(r, range(len(r)))] for r in d])[:, None] * (1 - neg)
        hn = torch.stack([nd[i, first_min(nd[i], range(len(d[i])))] for i in rows])
        t = F.softplus(hp - hn) if soft else hinge((hp - hn) / hn.mean() + margin)
        return t.mean()
    if own:
        near = [d[i, j] for i in rows for j in range(d.shape[1]) if g.labels[i] == g.other_labels[j]]
        far = [d[i, j] for i in rows for j in range(d.shape[1]) if g.labels[i] != g.other_labels[j]]
        if not near or not far:
            return torch.zeros(())
        t = torch.stack(near)[:, None] - torch.stack(far)[None] + margin
        return t.clamp(min=0).clamp(max=margin).mean()
    terms = []
    for i in rows:
        for a in places(p[i]):
            far = [b for b in places(n[i]) if d[i, b].item() > d[i, a].item()]
            if far:
                terms.append(term(d[i, a] - d[i, first_min(d[i], far)]))
            elif any(n[i]):
                terms.append(term(d[i, a] - d[i, first_max(d[i], places(n[i]))]))
    return mean(terms)


def online_contrastive(g, margin=0.5, distance="cosine", mining="hard", variant="", **_):
    own = variant != ""
    d = distance_matrix(distance, g.x, g.y, own)
    p, n = g.relation(own)
    rows = range(len(d))
    if own:
        n = [[not v for v in r] for r in p]
        if mining == "all":
            return 0.5 * mean([d[i, j] for i in rows for j in places(p[i])]) + \
                0.5 * mean([hinge(margin - d[i, j]) for i in rows for j in places(n[i])])
        pd = torch.tensor(p, dtype=torch.float64) * d
        hp = [pd[i, first_max(pd[i], range(len(d[i])))] for i in rows]
        hn = [d[i, first_min(d[i], places(n[i]))] for i in rows]
        count = sum(v.item() != 0 for v in hp)
        return 0.5 * sum(hp) / max(count, 1e-16) + 0.5 * mean([hinge(margin - v) for v in hn])
    if mining == "all":
        near = [d[i, j] ** 2 for i in rows for j in places(p[i])]
        far = [hinge(margin - d[i, j]) ** 2 for i in rows for j in places(n[i])]
    else:
        near = [d[i, first_max(d[i], places(p[i]))] ** 2 for i in rows if any(p[i])]
        far = [hinge(margin - d[i, first_min(d[i], places(n[i]))]) ** 2 for i in rows if any(n[i])]
    return 0.5 * mean(near) + 0.5 * mean(far)


def circle(g, margin=0.25, scale_factor=256, distance="cosine", variant="", **_):
    own = variant != ""
    s = similarity_matrix(distance, g.x, g.y, own)
    p, n = g.relation(own)

    def value(near, far):
        near, far = torch.stack(near), torch.stack(far)
        an = (far - margin if own else far + margin).detach().clamp(min=0)
        ap = (1 + margin + near if own else 1 + margin - near).detach().clamp(min=0)
        return F.softplus(torch.logsumexp(an * scale_factor * (far - margin), 0) +
                          torch.logsumexp(-ap * scale_factor * (near - (1 - margin)), 0))

    rows = range(len(s))
    if own:
        near = [s[i, j] for i in rows for j in places(p[i]) if j > i]
        far = [s[i, j] for i in rows for j in places(n[i]) if j > i]
        return value(near, far) if near and far else torch.zeros(())
    return mean([value([s[i, j] for j in places(p[i])], [s[i, j] for j in places(n[i])])
                 for i in rows if any(p[i]) and any(n[i])])


def fast_ap(g, num_bins=10, **_):
    cos = unit(g.x) @ unit(g.x).T
    t = (2 - 2 * cos).clamp(0, 4) * num_bins / 4
    p, n = g.relation(False)
    aps = []
    for i in range(len(t)):
        if not any(p[i]):
            continue
        pulses = [hinge(1 - (t[i] - k).abs()) for k in range(num_bins + 1)]
        near = torch.stack([q[torch.tensor(p[i])].sum() for q in pulses])
        far = torch.stack([q[torch.tensor(n[i])].sum() for q in pulses])
        cum, both = near.cumsum(0), (near + far).cumsum(0)
        ok = both > 0
        aps.append((near[ok] * cum[ok] / both[ok]).sum() / sum(p[i]))
    return 1 - mean(aps) if aps else torch.zeros(())


# Classifiers.


def labels_of(batch):
    return torch.tensor(batch["labels"])


def softmax(batch, w, temperature=0.05):
    return F.cross_entropy(batch["x"] @ w["kernel"] / temperature, labels_of(batch))


def cosines(batch, w):
    return unit(batch["x"]) @ unit(w["kernel"].T).T


def arc_face(batch, w, scale=64, margin=0.5):
    c = cosines(batch, w)
    own = F.one_hot(labels_of(batch), c.shape[1]).bool()
    square = 1 - c * c
    flat = square <= 1e-6
    sine = torch.where(flat, square.clamp(min=0).sqrt().detach(), torch.where(flat, torch.ones(()), square).sqrt())
    return F.cross_entropy(scale * torch.where(own, c * math.cos(margin) - sine * math.sin(margin), c), labels_of(batch))


def cos_face(batch, w, scale=64, margin=0.35, variant=""):
    c = cosines(batch, w)
    c = c - margin * F.one_hot(labels_of(batch), c.shape[1])
    return F.cross_entropy(scale * (torch.cos(c) if variant else c), labels_of(batch))


def center(batch, w, lambda_c=0.5, variant=""):
    centers = w["centers"][labels_of(batch)]
    if variant:
        return lambda_c * F.mse_loss(unit(batch["x"]), centers)
    return lambda_c * ((batch["x"] - centers) ** 2).sum(1).mean()


# Losses of pairs.


def contrastive(batch, margin=0.5, distance="cosine", sum=False, variant=""):
    own = variant != ""
    a, b = batch["x"], batch["y"]
    n = len(a)
    y = torch.tensor([float(np.float32(v)) for v in batch.get("scores") or [1] * n])
    d = pair_distance(distance, a, b, 1e-6 if own else 0)
    terms = 0.5 * (y * d ** 2 + (1 - y) * hinge(margin - d) ** 2)
    groups = batch.get("subgroups") or [0] * n
    if len(set(groups)) > 1:
        everything = torch.cat([a, b])
        groups = groups * 2
        ids = (batch.get("aids") or [None] * n) + (batch.get("bids") or [None] * n)
        m = distance_matrix(distance, everything, everything, own)
        extra = []
        for i in range(2 * n):
            far = [j for j in range(2 * n) if groups[i] != groups[j] and (own or ids[i] is None or ids[i] != ids[j])]
            if far:
                extra.append((i % n, hinge(margin - m[i, first_min(m[i], far)]) ** 2))
        for i, t in extra:
            terms = terms + torch.eye(n)[i] * t * (1 if own else 0.5)
    return terms.sum() if sum else terms.mean()


def cosent(batch, scale=20, distance="cosine"):
    s = scale * pair_similarity(distance, batch["x"], batch["y"])
    y = batch.get("scores") or [1] * len(s)
    diffs = [s[j] - s[i] for i in range(len(s)) for j in range(len(s)) if y[i] > y[j]]
    return torch.logsumexp(torch.stack([torch.zeros(())] + diffs), 0)


def ranking(batch, past, scale, distance, symmetric, own):
    """Of the batch, or of its pairs against the remembered other sides."""
    a, b = batch["x"], batch["y"]
    n = len(a)
    y = batch.get("scores") or [1] * n
    aids, bids = batch.get("aids"), batch.get("bids")

    def same(ids, i, other, j):
        return not own and ids is not None and ids[i] == other[j]

    def one_way(x, z, xids, zids, kept):
        sides = scale * similarity_matrix(distance, x, z, own)
        terms = []
        for i in range(n):
            if y[i] == 0:
                continue
            row = [sides[i, i]]
            if past is None:
                row += [sides[i, j] for j in range(n) if j != i and not same(zids, i, zids, j)
                        and not (same(xids, i, xids, j) and y[j] == 1)]
            else:
                x_name, z_name, old = kept
                more = scale * similarity_matrix(distance, x, old, own)
                row += [more[i, j] for j in range(len(old)) if not same(xids, i, past.get(x_name), j)
                        and not same(zids, i, past.get(z_name), j)]
            terms.append(torch.logsumexp(torch.stack(row), 0) - sides[i, i])
        return mean(terms)

    forth = one_way(a, b, aids, bids, past and ("aids", "bids", past["y"]))
    if not symmetric:
        return forth
    return (forth + one_way(b, a, bids, aids, past and ("bids", "aids", past["x"]))) / 2


def multiple_negatives_ranking(batch, past, scale=20, distance="cosine", symmetric=False, variant=""):
    return ranking(batch, past, scale, distance, symmetric, variant != "")


def info_nce(batch, past, temperature=0.05, distance="cosine", symmetric=False):
    return ranking(batch, past, 1 / temperature, distance, symmetric, False)


GROUPS = dict(triplet=triplet, online_contrastive=online_contrastive, circle=circle, fast_ap=fast_ap)
CLASSES = dict(softmax=softmax, arc_face=arc_face, cos_face=cos_face, center=center)
PAIRS = dict(contrastive=contrastive, cosent=cosent)
RANKS = dict(multiple_negatives_ranking=multiple_negatives_ranking, info_nce=info_nce)


def within(batch, cols):
    return dict(batch, **{k: batch[k][:, :cols] for k in ("x", "y") if k in batch})


def compute(type, params, batches, w):
    """The loss of the last batch, with what is remembered of those before."""
    params = dict(params)
    batch = batches[-1]
    if type == "sum":
        return sum(l.get("weight", 1) * compute(l["type"], {k: v for k, v in l.items() if k not in ("type", "weight")},
                                                batches, {k[2:]: v for k, v in w.items() if k.startswith(f"{i}.")})
                   for i, l in enumerate(params["losses"]))
    if type == "matryoshka":
        inner = dict(params["loss"])
        kind = inner.pop("type")
        return sum(f * compute(kind, inner, [within(b, d) for b in batches],
                               {k[len(str(d)) + 1:]: v for k, v in w.items() if k.startswith(f"{d}.")})
                   for d, f in zip(params["dims"], params.get("weights") or [1] * len(params["dims"])))
    xbm = params.pop("xbm", None)
    if type in CLASSES:
        return CLASSES[type](batch, w, **params)
    if type in PAIRS:
        return PAIRS[type](batch, **params)
    if type in RANKS:
        of = lambda past: RANKS[type](batch, past, **params)
    else:
        of = lambda past: GROUPS[type](Groups(batch, past), **params)
    value = of(None)
    if xbm is not None and len(batches) > xbm.get("start", 0):
        past = remembered(batches[:-1], xbm.get("size", 10000), xbm.get("start", 0))
        if past:
            value = value + xbm.get("weight", 1) * of(past)
    return value


def remembered(batches, size, start):
    """The samples that a memory of that size holds after batches, as a ring."""
    kept = {}
    seen = 0
    for step, b in enumerate(batches):
        if step < start:
            continue
        rows = [i for i in range(len(b["x"])) if (b.get("scores") or [1] * len(b["x"]))[i] == 1]
        for i in rows[-size:] if "y" not in b else rows:
            for key in ("x", "y", "labels", "aids", "bids"):
                if b.get(key) is None:
                    continue
                v = b[key][i].detach() if key in ("x", "y") else b[key][i]
                ring = kept.setdefault(key, [])
                if len(ring) < size:
                    ring.append(v)
                else:
                    ring[seen % size] = v
            seen += 1
    for key in ("x", "y"):
        if key in kept:
            kept[key] = torch.stack(kept[key])
    return kept or None


cases, seen = [], []


def numbered(batch):
    """The number of a batch in the file, where each stands once."""
    if batch not in seen:
        seen.append(batch)
    return seen.index(batch)


def case(name, type, params, *batches, weights=None):
    """Adds a case: the result of the last of the batches."""
    filled = []
    for b in batches:
        f = dict(b, x=tensor(b["a"]))
        if "b" in b:
            f["y"] = tensor(b["b"])
        filled.append(f)
    w = {k: tensor(v) for k, v in (weights or {}).items()}
    last = filled[-1]
    value = compute(type, params, filled, w)
    leaves = [last["x"]] + ([last["y"]] if "y" in last else []) + list(w.values())
    grads = [torch.zeros_like(v) for v in leaves]
    if value.requires_grad:
        grads = [g if g is not None else torch.zeros_like(v)
                 for g, v in zip(torch.autograd.grad(value, leaves, allow_unused=True), leaves)]
    out = dict(name=name, type=type, params=params, batches=[numbered(b) for b in batches], value=value.item())
    if w:
        out["weights"] = weights
    out["da"] = grads[0]
    if "y" in last:
        out["db"] = grads[1]
    if w:
        out["grads"] = dict(zip(w, grads[-len(w):]))
    cases.append(out)


# Inputs.

G = put("g", rng.normal(size=(7, 4)))
G2 = put("g2", rng.normal(size=(6, 4)))
G3 = put("g3", rng.normal(size=(7, 4)))
A, B = put("a", rng.normal(size=(6, 4))), put("b", rng.normal(size=(6, 4)))
A2, B2 = put("a2", rng.normal(size=(5, 4))), put("b2", rng.normal(size=(5, 4)))
CLOSE = put("close", 5 + 0.1 * rng.normal(size=(7, 4)))
EQUAL = put("equal", [[1, -2, 0.5, 1]] * 6)
ZEROS = put("zeros", [[0, 0, 0, 0], [1, 2, 0, -1], [0, 0, 0, 0], [0.5, -1, 2, 0], [1, 1, 1, 1], [-1, 0, 0, 2]])
GRID = put("grid", [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, -1], [0, -1, 0, 0]])
ONE, TWO, ONEB, TWOB = (put(n, rng.normal(size=(s, 4))) for n, s in (("one", 1), ("two", 2), ("oneb", 1), ("twob", 2)))
KERNEL, CENTERS = put("kernel", 0.3 * rng.normal(size=(4, 3))), put("centers", 0.4 * rng.normal(size=(3, 4)))
KERNEL2 = put("kernel2", 0.3 * rng.normal(size=(2, 3)))
HOLE = put("hole", [[0, 0.3, 0.1], [0, -0.2, 0.5], [0, 0.1, 0.1], [0, 0.4, -0.3]])

MIXED = [0, 1, 0, 2, 1, 0, 2]
batches = {
    "random": dict(a=G, labels=MIXED),
    "ids": dict(a=G, labels=MIXED, aids=[5, 6, 5, 7, 8, 9, 6]),
}
edges = {
    "one group": dict(a=G2, labels=[1] * 6),
    "no positives": dict(a=G2, labels=[0, 1, 2, 3, 4, 5]),
    "one positive": dict(a=G2, labels=[0, 1, 2, 3, 0, 4]),
    "all equal": dict(a=EQUAL, labels=[0, 1, 0, 1, 2, 2]),
    "zeros": dict(a=ZEROS, labels=[0, 1, 1, 0, 0, 1]),
    "ties": dict(a=GRID, labels=[0, 1, 1, 0, 2, 2]),
    "ties of positives": dict(a=GRID, labels=[0, 0, 0, 0, 1, 1]),
    "one object": dict(a=G2, labels=[0, 1, 0, 1, 0, 1], aids=[3] * 6),
    "one sample": dict(a=ONE, labels=[0]),
    "two alike": dict(a=TWO, labels=[2, 2]),
    "two unlike": dict(a=TWO, labels=[2, 0]),
}
ALL = ["cosine", "euclidean", "manhattan", "dot_product"]
OWN = dict(variant="quaterion")

for d in ALL:
    for mining, soft in itertools.product(("hard", "all", "semi_hard"), (False, True)):
        case("random", "triplet", dict(distance=d, mining=mining, soft=soft, margin=0.3 + ALL.index(d)), batches["random"])
    for mining in ("hard", "all", "semi_hard"):
        case("random", "triplet", dict(OWN, distance=d, mining=mining, margin=0.437), batches["ids"])
        if d != "manhattan":
            case("ids", "triplet", dict(distance=d, mining=mining), batches["ids"])
    case("random", "triplet", dict(OWN, distance=d, soft=True), batches["random"])
    for mining in ("hard", "all"):
        if d != "dot_product":
            case("random", "online_contrastive", dict(distance=d, mining=mining, margin=2), batches["random"])
            case("ids", "online_contrastive", dict(distance=d, mining=mining, margin=2), batches["ids"])
        case("random", "online_contrastive", dict(OWN, distance=d, mining=mining, margin=2), batches["ids"])
    scale = 0.5 if d == "dot_product" else 16
    case("random", "circle", dict(distance=d, scale_factor=scale, margin=0.4), batches["random"])
    case("random", "circle", dict(OWN, distance=d, scale_factor=scale), batches["ids"])
    for mining in ("hard", "all", "semi_hard"):
        case("close", "triplet", dict(distance=d, mining=mining, margin=0.05), dict(a=CLOSE, labels=MIXED)) if d == "euclidean" else None
case("random", "circle", dict(), batches["random"])
case("random", "circle", dict(OWN), batches["random"])
case("ids", "circle", dict(scale_factor=32), batches["ids"])
for bins in (10, 1, 7):
    case("random", "fast_ap", dict(num_bins=bins), batches["random"])
case("ids", "fast_ap", dict(), batches["ids"])
for name, b in edges.items():
    for mining in ("hard", "all", "semi_hard"):
        case(name, "triplet", dict(mining=mining), b)
        case(name, "triplet", dict(mining=mining, distance="euclidean", margin=0.7), b)
        if name not in ("one object",):
            # 0/0 is Quaterion's: NaN.
            if mining != "hard" or name not in ("all equal", "one sample"):
                case(name, "triplet", dict(OWN, mining=mining), b)
    for mining in ("hard", "all"):
        case(name, "online_contrastive", dict(mining=mining, distance="manhattan", margin=3), b)
        case(name, "online_contrastive", dict(OWN, mining=mining), b)
    case(name, "circle", dict(scale_factor=20), b)
    case(name, "circle", dict(OWN, scale_factor=20), b)
    case(name, "fast_ap", dict(), b)

xbm = dict(size=8, weight=0.7)
first, second, third = dict(a=G2, labels=[0, 1, 2, 0, 1, 1]), dict(a=G3, labels=MIXED), dict(a=G, labels=[0, 1, 1, 2, 1, 0, 2])
known = [dict(first, aids=[1, 2, 3, 4, 5, 6]), dict(second, aids=[7, 8, 9, 1, 2, 10, 11]), dict(third, aids=[2, 7, 9, 12, 13, 14, 3])]
for mining in ("hard", "all", "semi_hard"):
    case("memory", "triplet", dict(mining=mining, xbm=xbm, margin=1), first, second, third)
    case("memory", "triplet", dict(OWN, mining=mining, xbm=xbm, distance="euclidean"), *known)
case("memory", "triplet", dict(xbm=xbm, soft=True, distance="euclidean"), *known)
case("memory of one batch of the same labels", "triplet", dict(OWN, xbm=dict()), second, dict(third, labels=MIXED))
case("a memory before its start", "triplet", dict(xbm=dict(start=3)), first, second, third)
case("a memory after its start", "triplet", dict(xbm=dict(start=1)), first, second, third)
case("a memory smaller than a batch", "online_contrastive", dict(xbm=dict(size=3), margin=1), first, second, third)
case("memory", "online_contrastive", dict(mining="all", distance="manhattan", margin=4, xbm=xbm), *known)
case("memory", "circle", dict(scale_factor=16, xbm=xbm), *known)

for t in (0.05, 1.0):
    case("random", "softmax", dict(temperature=t), batches["random"], weights=dict(kernel=KERNEL))
for type, params in (("arc_face", {}), ("arc_face", dict(scale=8, margin=1.2)), ("cos_face", {}), ("cos_face", dict(scale=5, margin=0.1)),
                     ("cos_face", OWN), ("cos_face", dict(OWN, scale=10, margin=0.8))):
    case("random", type, params, batches["random"], weights=dict(kernel=KERNEL))
for params in ({}, dict(lambda_c=3), OWN):
    case("random", "center", params, batches["random"], weights=dict(centers=CENTERS))
for name in ("zeros", "all equal", "one sample"):
    b = edges[name]
    for type in ("softmax", "arc_face", "cos_face"):
        case(name, type, {}, b, weights=dict(kernel=HOLE if name == "zeros" else KERNEL))
    case(name, "center", OWN, b, weights=dict(centers=CENTERS))
case("aligned", "arc_face", dict(scale=4), dict(a=GRID, labels=[0, 1, 2, 2, 0, 1]), weights=dict(kernel=put("aligned", [[2, 0, 0], [0, 3, 0], [0, 0, 0], [0, 0, 1]])))

pairs = {
    "scores": dict(a=A, b=B, scores=[1, 0, 0.25, 1, 0, 0.5]),
    "subgroups": dict(a=A, b=B, scores=[1, 0, 1, 1, 0, 1], subgroups=[1, 2, 1, 3, 3, 2]),
    "subgroups and ids": dict(a=A, b=B, scores=[1, 0, 1, 1, 0, 1], subgroups=[1, 2, 1, 3, 3, 2],
                              aids=[1, 2, 3, 4, 5, 6], bids=[7, 1, 8, 3, 9, 4]),
    "one object": dict(a=A, b=B, subgroups=[1, 2, 1, 3, 3, 2], aids=[1] * 6, bids=[1] * 6),
}
for d in ALL:
    for name in ("scores", "subgroups", "subgroups and ids"):
        if d != "dot_product":
            case(name, "contrastive", dict(distance=d, margin=[1.2, 3, 6][ALL.index(d)]), pairs[name])
    case("subgroups and ids", "contrastive", dict(OWN, distance=d, margin=1.2, sum=d == "cosine"), pairs["subgroups and ids"])
    case("scores", "contrastive", dict(OWN, distance=d), pairs["scores"])
    case("scores", "cosent", dict(distance=d, scale=[20, 5, 3, 2][ALL.index(d)]), pairs["scores"])
case("one object", "contrastive", {}, pairs["one object"])
case("sum", "contrastive", dict(sum=True), pairs["subgroups"])
edge_pairs = {
    "equal": dict(a=EQUAL, b=EQUAL, scores=[1, 0, 1, 0, 0.5, 0.25], subgroups=[1, 1, 2, 2, 3, 3]),
    "zeros": dict(a=ZEROS, b=A, scores=[1, 0, 1, 0, 1, 1], subgroups=[1, 1, 2, 2, 3, 3]),
    "ties": dict(a=GRID, b=GRID, scores=[1, 0, 1, 1, 0, 1], subgroups=[1, 2, 1, 2, 1, 2]),
    "one pair": dict(a=ONE, b=ONEB),
    "two pairs": dict(a=TWO, b=TWOB, scores=[0, 1], subgroups=[1, 2]),
}
for name, b in edge_pairs.items():
    for d in ("cosine", "euclidean"):
        case(name, "contrastive", dict(distance=d, margin=1.3), b)
    case(name, "contrastive", OWN, b)
    case(name, "cosent", {}, b)
case("far apart", "cosent", dict(scale=2000), pairs["scores"])

ids = {
    "distinct": {},
    "equal second sides": dict(aids=[10, 11, 12, 13, 14, 15], bids=[1, 2, 1, 3, 1, 3]),
    "equal first sides": dict(aids=[5, 5, 6, 7, 8, 8]),
    "both": dict(aids=[1, 1, 2, 2, 3, 4], bids=[6, 7, 8, 8, 9, 9]),
    "all equal": dict(aids=[1] * 6, bids=[2] * 6),
}
for name, more in ids.items():
    for symmetric in (False, True):
        b = dict(a=A, b=B, **more)
        case(name, "multiple_negatives_ranking", dict(symmetric=symmetric), b)
        case(name, "multiple_negatives_ranking", dict(OWN, symmetric=symmetric, scale=7), b)
        case(name, "info_nce", dict(symmetric=symmetric, temperature=0.3), dict(b, scores=[1, 0, 1, 1, 0, 1]))
for d in ALL[1:]:
    for symmetric in (False, True):
        case("distances", "multiple_negatives_ranking", dict(distance=d, symmetric=symmetric, scale=2), dict(a=A, b=B, **ids["both"]))
    case("distances", "multiple_negatives_ranking", dict(OWN, distance=d, symmetric=True, scale=2), dict(a=A, b=B, **ids["both"]))
    case("distances", "info_nce", dict(distance=d, temperature=0.5), dict(a=A, b=B))
for name, b in edge_pairs.items():
    b = {k: v for k, v in b.items() if k not in ("scores", "subgroups")}
    case(name, "multiple_negatives_ranking", dict(symmetric=True), b)
    case(name, "info_nce", dict(distance="euclidean"), b)
case("no positive", "info_nce", dict(symmetric=True), dict(a=A, b=B, scores=[0] * 6))
for symmetric in (False, True):
    p = dict(symmetric=symmetric, xbm=dict(size=7, weight=0.6))
    case("memory", "multiple_negatives_ranking", dict(p, scale=4), dict(a=A2, b=B2), dict(a=B, b=A), dict(a=A, b=B))
    case("memory", "info_nce", dict(p, temperature=0.4, distance="euclidean"),
         dict(a=A2, b=B2, aids=[1, 2, 3, 4, 5], bids=[6, 7, 8, 9, 10], scores=[1, 1, 0, 1, 1]),
         dict(a=B, b=A, aids=[1, 11, 12, 13, 14, 15], bids=[16, 17, 18, 19, 9, 20], scores=[1, 0, 1, 1, 1, 1]),
         dict(a=A, b=B, aids=[21, 1, 15, 14, 22, 23], bids=[20, 9, 24, 25, 7, 18], scores=[1, 1, 0, 1, 1, 1]))

case("random", "sum", dict(losses=[dict(type="softmax", temperature=0.5, weight=2), dict(type="center", weight=0.3),
                                   dict(type="triplet", distance="euclidean")]),
     batches["ids"], weights={"0.kernel": KERNEL, "1.centers": CENTERS})
case("random", "sum", dict(losses=[dict(type="info_nce", weight=0.25), dict(type="contrastive")]), dict(a=A, b=B, scores=[1, 0, 1, 1, 0, 1]))
case("random", "matryoshka", dict(dims=[4, 2, 1], weights=[1, 0.5, 2], loss=dict(type="multiple_negatives_ranking", scale=5)), dict(a=A, b=B))
case("random", "matryoshka", dict(dims=[2, 4], loss=dict(type="softmax", temperature=1)), batches["random"],
     weights={"2.kernel": KERNEL2, "4.kernel": KERNEL})
case("memory", "sum", dict(losses=[dict(type="triplet", xbm=dict(size=7)), dict(type="fast_ap", weight=3)]), dict(a=G2, labels=[0, 1, 2, 0, 1, 1]), third)


def written(x):
    if isinstance(x, torch.Tensor):
        return written(x.flatten().tolist()) if x.abs().max() > 0 else None
    if isinstance(x, float):
        return float(f"{x:.6g}")
    if isinstance(x, list):
        return [written(v) for v in x]
    return {k: written(v) for k, v in x.items()} if isinstance(x, dict) else x


def line(x):
    return json.dumps(written(x), separators=(",", ":"))


path = pathlib.Path(__file__).with_name("vectors.json")
text = '{"inputs":{\n' + ",\n".join(f"{json.dumps(k)}:{line(v)}" for k, v in inputs.items())
text += '},\n"batches":[\n' + ",\n".join(map(line, seen)) + '],\n"cases":[\n' + ",\n".join(map(line, cases)) + "]}\n"
assert "NaN" not in text and "Infinity" not in text, "a case is not finite"
path.write_text(text)
print(len(cases), "cases,", len(text), "bytes")
