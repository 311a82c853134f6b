"""The loop that one would write in PyTorch, for bench/train/run: the same rows
in the same order, from the same first weights. It prints the seconds of an
epoch for each line that it reads; "check" trains the steps that the module's
weights in the folder have had, and prints how far the two are apart at most.

    peer_torch.py FOLDER pairs|groups LEARNING_RATE
"""

import json
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

folder, kind, lr = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
facts = json.loads((folder / "facts.json").read_text())
rows, dim, size = facts["rows"], facts["dim"], facts["batch"]


def values(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.fromfile(folder / name, np.float32)).reshape(shape)


a = values("a", rows, dim)
b = values("b", rows, dim) if kind == "pairs" else None
orders = torch.from_numpy(np.fromfile(folder / "order", np.int64)).reshape(-1, rows)


def numbers(x: torch.Tensor) -> torch.Tensor:
    """Equal numbers for equal embeddings, which equal objects have."""
    known: dict[bytes, int] = {}
    return torch.tensor([known.setdefault(row.tobytes(), len(known)) for row in x.numpy()])


if kind == "pairs":
    ids = numbers(a), numbers(b)
else:
    names, y = np.unique(np.array(facts["labels"]), return_inverse=True)
    y, classes = torch.from_numpy(y), len(names)


class Model(torch.nn.Module):
    def __init__(self, when: str):
        super().__init__()
        self.weight = torch.nn.Parameter(values(when + "-fc.0.weight", dim, dim))
        self.bias = torch.nn.Parameter(values(when + "-fc.0.bias", dim))
        self.gate = torch.nn.Parameter(values(when + "-gates.0", dim))
        if kind == "groups":
            self.kernel = torch.nn.Parameter(values(when + "-kernel", dim, classes))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias) * torch.sigmoid(self.gate) + x


class Training:
    def __init__(self, masked: bool):
        self.model, self.masked, self.epochs, self.steps = Model("first"), masked, 0, 0
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)

    def loss(self, at: torch.Tensor) -> torch.Tensor:
        m = self.model
        if kind == "groups":
            return F.cross_entropy(m(a[at]) @ m.kernel / 0.05, y[at])
        logits = 20 * F.normalize(m(a[at])) @ F.normalize(m(b[at])).T
        if self.masked:  # pairs of equal objects are no negatives; a loop by hand rarely thinks of them
            same = sum((i[at][:, None] == i[at][None]) for i in ids) > 0
            logits = logits.masked_fill(same & ~torch.eye(len(at), dtype=torch.bool), -torch.inf)
        target = torch.arange(len(at))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    def epoch(self, steps: int = sys.maxsize) -> None:
        order = orders[self.epochs % len(orders)]
        for lo in range(0, rows, size):
            if self.steps == steps:
                return
            self.optimizer.zero_grad()
            loss = self.loss(order[lo:lo + size])
            loss.backward()
            self.optimizer.step()
            loss.item()  # the mean of an epoch is told by both
            self.steps += 1
        self.epochs += 1


def check() -> float:
    t = Training(masked=True)
    while t.steps < facts["steps"]:
        t.epoch(facts["steps"])
    with torch.no_grad():
        return max((p - q).abs().max().item() for p, q in zip(t.model.parameters(), Model("after").parameters(), strict=True))


training = Training(masked=False)
for line in sys.stdin:
    if line.strip() == "check":
        print(check(), flush=True)
        continue
    start = time.perf_counter()
    training.epoch()
    print(time.perf_counter() - start, flush=True)
