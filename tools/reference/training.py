#!/usr/bin/env python3
"""Trains 50 steps of the text recipes by bench/train's program and by PyTorch,
on the same rows in the same order and from the same first weights, and holds
the weights of both to each other.

    training.py            runs everything
    training.py FOLDER KIND OPTIONS   is the side of PyTorch
"""
import json
import pathlib
import subprocess
import sys
import tempfile

LIMIT = 1e-4
# Options of the training by the names of a config.
CASES = [
    {"optimizer": {"type": "adam", "lr": 1e-3}},
    {"optimizer": {"type": "adamw", "lr": 1e-3, "weight_decay": 0.1}, "clip_norm": 0.01,
     "schedule": {"type": "constant", "warmup_steps": 30}},
    {"optimizer": {"type": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}, "clip_norm": 1},
]


def theirs(folder: pathlib.Path, kind: str, case: dict) -> None:
    import numpy as np
    import torch
    import torch.nn.functional as F

    facts = json.loads((folder / "facts.json").read_text())
    rows, dim, size = facts["rows"], facts["dim"], facts["batch"]

    def values(name: str, *shape: int) -> torch.Tensor:
        return torch.from_numpy(np.fromfile(folder / name, np.float32)).reshape(shape)

    def weights(when: str) -> list[torch.Tensor]:
        out = [values(f"{when}-fc.0.weight", dim, dim), values(f"{when}-fc.0.bias", dim), values(f"{when}-gates.0", dim)]
        return out + [values(f"{when}-kernel", dim, classes)] if kind == "groups" else out

    def numbers(x: torch.Tensor) -> torch.Tensor:
        known: dict[bytes, int] = {}
        return torch.tensor([known.setdefault(row.tobytes(), len(known)) for row in x.numpy()])

    a = values("a", rows, dim)
    if kind == "groups":
        names, y = np.unique(np.array(facts["labels"]), return_inverse=True)
        y, classes = torch.from_numpy(y), len(names)
    else:
        b = values("b", rows, dim)
        ids = numbers(a), numbers(b)
    params = [torch.nn.Parameter(w) for w in weights("first")]

    def head(x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, params[0], params[1]) * torch.sigmoid(params[2]) + x

    def loss(at: torch.Tensor) -> torch.Tensor:
        if kind == "groups":
            return F.cross_entropy(head(a[at]) @ params[3] / 0.05, y[at])
        logits = 20 * F.normalize(head(a[at])) @ F.normalize(head(b[at])).T
        same = sum((i[at][:, None] == i[at][None]) for i in ids) > 0
        logits = logits.masked_fill(same & ~torch.eye(len(at), dtype=torch.bool), -torch.inf)
        target = torch.arange(len(at))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    options = dict(case["optimizer"])
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    optimizer = kinds[options.pop("type")](params, **options)
    warm = case.get("schedule", {}).get("warmup_steps", 0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1, s / warm) if warm else 1)
    orders = torch.from_numpy(np.fromfile(folder / "order", np.int64)).reshape(-1, rows)
    batches = [order[lo:lo + size] for order in orders for lo in range(0, rows, size)]
    clipped = 0
    for at in batches[:facts["steps"]]:
        optimizer.zero_grad()
        loss(at).backward()
        clipped += bool(torch.nn.utils.clip_grad_norm_(params, case.get("clip_norm", float("inf"))) > case.get("clip_norm", float("inf")))
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        apart = max((p - q).abs().max().item() for p, q in zip(params, weights("after"), strict=True))
        moved = max((p - q).abs().max().item() for p, q in zip(params, weights("first"), strict=True))
    print(f"{folder.name}: {facts['steps']} steps, {clipped} clipped, moved by at most {moved:.1e}: at most {apart:.1e} from torch")
    assert moved > 100 * LIMIT and apart <= LIMIT, (moved, apart)


def main() -> None:
    root = pathlib.Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root / "bench/lib"))
    import benchlib as b
    import recipes

    if not recipes.there():
        return
    with tempfile.TemporaryDirectory() as tmp:
        program = f"{tmp}/train"
        subprocess.run(["go", "build", "-o", program, "./bench/train"], cwd=root, check=True)
        configs = recipes.write(pathlib.Path(tmp), 1)
        for recipe, kind, epochs in (("faq", "pairs", 8), ("banking77", "groups", 2)):
            for case in CASES:
                folder = pathlib.Path(tmp) / f"{recipe}-{case['optimizer']['type']}"
                folder.mkdir()
                sets = [f"train.{k}={json.dumps(v)}" for k, v in case.items()]
                subprocess.run([program, configs[recipe], folder, *sets], input="epoch\n" * epochs, text=True,
                               stdout=subprocess.DEVNULL, check=True)
                subprocess.run([b.torch(), __file__, folder, kind, json.dumps(case)], check=True)


if len(sys.argv) > 1:
    theirs(pathlib.Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
else:
    main()
