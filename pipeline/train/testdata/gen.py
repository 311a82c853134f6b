"""Writes optimizers.json: steps of optimizers, learning-rate schedules and
clipping in float64 by PyTorch, schedules by transformers.

    python3 gen.py    # made with torch 2.15.0 and transformers 5.24.0
"""
import json
import math
import pathlib

import torch
import transformers

STEPS = 12
torch.manual_seed(13)
# Two parameters of 4 and 2 values. Gradients from 1e-6 to 100, and one that
# is always 0.
FIRST = torch.randn(6).double()
GRADS = (torch.randn(STEPS, 6) * torch.tensor([1e-6, 1e-3, 1, 10, 100, 0])).double()

ADAM = dict(lr=0.1, beta1=0.5, beta2=0.9, eps=1e-3)
CASES = [
    dict(type="adam"),
    dict(type="adam", options=ADAM),
    dict(type="adamw"),
    dict(type="adamw", options=dict(ADAM, weight_decay=0.3)),
    dict(type="adamw", options=dict(weight_decay=0)),
    dict(type="sgd"),
    dict(type="sgd", options=dict(lr=0.01, weight_decay=0.1)),
    dict(type="sgd", options=dict(lr=0.01, momentum=0.9)),
    dict(type="sgd", options=dict(lr=0.01, momentum=0.8, nesterov=True, weight_decay=0.1)),
    dict(type="sgd", options=dict(lr=0.01, momentum=0.9), clip=1.5),
    dict(type="sgd", options=dict(lr=0.01), clip=1000),
    dict(type="adamw", options=ADAM, clip=0.1, schedule="cosine", warmup_steps=3),
    dict(type="sgd", schedule="constant"),
    dict(type="sgd", schedule="constant", warmup_fraction=0.3),
    dict(type="sgd", schedule="linear"),
    dict(type="adam", schedule="linear", warmup_steps=5),
    dict(type="sgd", schedule="cosine"),
    dict(type="sgd", schedule="linear", warmup_fraction=1),
]


def optimizer(case, params):
    o = dict(case.get("options", {}))
    o.setdefault("lr", 1e-3)
    if case["type"] == "sgd":
        return torch.optim.SGD(params, **o)
    betas = (o.pop("beta1", 0.9), o.pop("beta2", 0.999))
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[case["type"]](params, betas=betas, **o)


def schedule(case, opt):
    warm = case.get("warmup_steps", math.ceil(STEPS * case.get("warmup_fraction", 0)))
    return transformers.get_scheduler(
        {"constant": "constant_with_warmup"}.get(case["schedule"], case["schedule"]),
        opt, num_warmup_steps=warm, num_training_steps=STEPS)


for case in CASES:
    params = [torch.nn.Parameter(FIRST[:4].clone()), torch.nn.Parameter(FIRST[4:].clone())]
    opt = optimizer(case, params)
    plan = schedule(case, opt) if "schedule" in case else None
    case.update(rates=[], norms=[], steps=[])
    for g in GRADS:
        params[0].grad, params[1].grad = g[:4].clone(), g[4:].clone()
        case["norms"].append(torch.nn.utils.clip_grad_norm_(params, case.get("clip", float("inf"))).item())
        case["rates"].append(opt.param_groups[0]["lr"])
        opt.step()
        if plan:
            plan.step()
        case["steps"].append([float(f"{v:.9g}") for p in params for v in p.tolist()])
out = dict(first=FIRST.tolist(), grads=GRADS.tolist(), cases=CASES)
pathlib.Path(__file__).with_name("optimizers.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")
