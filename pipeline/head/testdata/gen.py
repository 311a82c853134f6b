"""Writes vectors.json: every head in float64 by PyTorch, with the gradients
of sum(c * y) by autograd.

    python3 gen.py    # torch 2
"""
import json
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
rng = torch.Generator().manual_seed(11)
ROWS = 7


def normal(*shape):
    """Random values that float32 holds exactly."""
    return torch.randn(*shape, generator=rng).float().double()


def inputs(dim):
    """Random rows, and at the end zeros, equal values, large and tiny ones."""
    x = normal(ROWS, dim)
    x[3], x[4] = 0, 1.5
    x[5] *= 20
    x[6] *= 1e-6
    return x.float().double()


def linear(p, name, x):
    return F.linear(x, p(name + ".weight"), p(name + ".bias"))


def activation(name, x):
    return x if name == "identity" else vars(F).get(name, getattr(torch, name, None))(x)


def empty(p, x, **_):
    return x


def gated(p, x, **_):
    return x * torch.tanh(p("gates"))


def skip_connection(p, x, n_layers=1, **_):
    for i in range(n_layers):
        x = linear(p, f"fc.{i}", x) * torch.sigmoid(p(f"gates.{i}")) + x
    return x


def stacked_projection(p, x, output_sizes, activation_fn="relu", **_):
    for i in range(len(output_sizes)):
        x = linear(p, f"_stack.{i}", activation(activation_fn, x) if i else x)
    return x


def widening(p, x, expansion_factor=4.0, activation_fn="relu", **_):
    return stacked_projection(p, x, [int(x.shape[1] * expansion_factor), x.shape[1]], activation_fn)


def softmax_embeddings(p, x, output_groups, output_size_per_group, **_):
    z = linear(p, "projection_layer", x)
    return torch.softmax(z.view(len(z), output_groups, output_size_per_group), -1).view(z.shape)


def layer_norm(p, x, **_):
    return F.layer_norm(x, x.shape[1:], p("weight"), p("bias"), 1e-5)


def sequential(p, x, heads, choices=None):
    for i, h in enumerate(heads):
        x = run(lambda n, i=i: p(f"{i}.{n}"), x, h, choices)
    return x


def switch(p, x, options, choices):
    y = None
    for name, h in options.items():
        rows = torch.tensor([c == name or c.startswith(name + "/") for c in choices])
        rest = [c[len(name) + 1:] for c in choices if c == name or c.startswith(name + "/")]
        out = run(lambda n, name=name: p(f"{name}.{n}"), x[rows], h, rest)
        y = torch.zeros(len(x), out.shape[1]) if y is None else y
        y = y.index_put((rows.nonzero()[:, 0],), out)
    return y


def run(p, x, head, choices):
    params = {k: v for k, v in head.items() if k != "type"}
    if head["type"] in ("sequential", "switch"):
        params["choices"] = choices
    return globals()[head["type"]](p, x, **params)


def shapes(head, dim):
    """The parameters of a head by name, and the size of its output."""
    kind = head["type"]
    if kind == "gated":
        return {"gates": (dim,)}, dim
    if kind == "layer_norm":
        return {"weight": (dim,), "bias": (dim,)}, dim
    if kind == "skip_connection":
        s = {}
        for i in range(head.get("n_layers", 1)):
            s |= {f"fc.{i}.weight": (dim, dim), f"fc.{i}.bias": (dim,), f"gates.{i}": (dim,)}
        return s, dim
    if kind in ("stacked_projection", "widening"):
        sizes = head.get("output_sizes") or [int(dim * head.get("expansion_factor", 4.0)), dim]
        s = {}
        for i, size in enumerate(sizes):
            s |= {f"_stack.{i}.weight": (size, dim), f"_stack.{i}.bias": (size,)}
            dim = size
        return s, dim
    if kind == "softmax_embeddings":
        out = head["output_groups"] * head["output_size_per_group"]
        return {"projection_layer.weight": (out, dim), "projection_layer.bias": (out,)}, out
    if kind == "sequential":
        s = {}
        for i, h in enumerate(head["heads"]):
            inner, dim = shapes(h, dim)
            s |= {f"{i}.{k}": v for k, v in inner.items()}
        return s, dim
    if kind == "switch":
        s = {}
        for name, h in head["options"].items():
            inner, out = shapes(h, dim)
            s |= {f"{name}.{k}": v for k, v in inner.items()}
        return s, out
    return {}, dim


def case(head, dim, choices=None):
    sizes, out = shapes(head, dim)
    values = {"x": inputs(dim)} | {name: normal(*shape) for name, shape in sizes.items()}
    leaves = {k: v.requires_grad_() for k, v in values.items()}
    y = run(leaves.__getitem__, leaves["x"], head, choices)
    c = normal(*y.shape)
    (c * y).sum().backward()
    assert y.shape == (ROWS, out)
    flat = lambda v: v.detach().flatten().tolist()
    return dict(head=head, dim=dim, choices=choices, c=flat(c), y=flat(y),
                values={k: flat(v) for k, v in leaves.items()}, grads={k: flat(v.grad) for k, v in leaves.items()})


def rounded(x):
    if isinstance(x, float):
        return float(f"{x:.9g}")
    if isinstance(x, list):
        return [rounded(v) for v in x]
    return {k: rounded(v) for k, v in x.items()} if isinstance(x, dict) else x


if __name__ == "__main__":
    cases = [case(dict(type="empty"), 3), case(dict(type="gated"), 5), case(dict(type="layer_norm"), 6)]
    cases += [case(dict(type="skip_connection", n_layers=n), 5) for n in (1, 3)]
    cases += [case(dict(type="stacked_projection", output_sizes=[4, 3], activation_fn=f), 5)
              for f in ("elu", "gelu", "identity", "leaky_relu", "relu", "sigmoid", "silu", "tanh")]
    cases += [
        case(dict(type="stacked_projection", output_sizes=[3]), 4),
        case(dict(type="widening"), 3),
        case(dict(type="widening", expansion_factor=0.5, activation_fn="tanh"), 5),
        case(dict(type="softmax_embeddings", output_groups=3, output_size_per_group=2), 4),
        case(dict(type="sequential", heads=[
            dict(type="gated"), dict(type="stacked_projection", output_sizes=[3, 4], activation_fn="gelu"),
            dict(type="empty"), dict(type="sequential", heads=[dict(type="layer_norm"), dict(type="skip_connection")])]), 3),
        case(dict(type="switch", options=dict(
            image=dict(type="stacked_projection", output_sizes=[3]), text=dict(type="gated"), unused=dict(type="empty"))),
            3, ["text", "image", "text", "text", "image", "image", "text"]),
        case(dict(type="sequential", heads=[dict(type="gated"), dict(type="switch", options=dict(
            a=dict(type="switch", options=dict(x=dict(type="gated"), y=dict(type="skip_connection"))), b=dict(type="layer_norm")))]),
            4, ["a/x", "b", "a/y", "a/y", "b", "a/x", "b"]),
    ]
    path = pathlib.Path(__file__).with_name("vectors.json")
    path.write_text("[" + ",\n".join(json.dumps(rounded(c), separators=(",", ":")) for c in cases) + "]\n")
