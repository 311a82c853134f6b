#!/usr/bin/env python3
"""Turns a BERT or RoBERTa of a sentence-transformers directory into one ONNX graph.

    bert.py MODEL_DIR OUT_DIR [--float16] [--hidden]

reads config.json, model.safetensors and modules.json of MODEL_DIR and writes
OUT_DIR/model.onnx, with the tokenizer's files beside it: a directory that the
engine `onnx` takes. Needs numpy and onnx alone, no PyTorch.

Inputs of the graph are input_ids and attention_mask, int64 [batch, sequence];
its output is sentence_embedding [batch, dim], pooled and normalized as the
directory says. With --hidden it is last_hidden_state [batch, sequence, dim],
for pooling outside. With --float16 weights, arithmetic and output are float16,
but pooling and the length are computed in float32.

The same input and the same versions give the same bytes.
"""
import argparse
import json
import pathlib
import shutil
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DTYPES = {"F32": np.float32, "F16": np.float16, "F64": np.float64}
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt",
          "special_tokens_map.json", "sentence_bert_config.json", "sentence_roberta_config.json")


def read_safetensors(path):
    """Returns the tensors of a safetensors file by name, as views of a map of the file."""
    data = np.memmap(path, np.uint8, "r")
    size = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:8 + size].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        raw = data[8 + size + begin:8 + size + end]
        if t["dtype"] == "BF16":
            tensors[name] = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(t["shape"])
        elif t["dtype"] in DTYPES:
            tensors[name] = raw.view(DTYPES[t["dtype"]]).reshape(t["shape"])
    return tensors


def read_json(path, default=None):
    return json.loads(path.read_text("utf8")) if path.exists() or default is None else default


class Graph:
    """A graph under construction: each method adds a node and returns its output's name."""

    def __init__(self, weights, dtype):
        self.weights, self.dtype = weights, dtype
        self.nodes, self.initializers, self.names = [], [], set()

    def op(self, kind, *inputs, **attributes):
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name, values, dtype=None):
        if name not in self.names:
            self.names.add(name)
            values = np.ascontiguousarray(values, dtype or self.dtype)
            self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def ints(self, *values):
        return self.constant("ints_" + "_".join(map(str, values)).replace("-", "m"), values, np.int64)

    def weight(self, name, transpose=False):
        w = self.weights[name]
        return self.constant(name, w.T if transpose else w)

    def linear(self, x, name):
        return self.op("Add", self.op("MatMul", x, self.weight(name + ".weight", True)), self.weight(name + ".bias"))

    def norm(self, x, name, eps):
        return self.op("LayerNormalization", x, self.weight(name + ".weight"), self.weight(name + ".bias"), axis=-1, epsilon=eps)

    def gelu(self, x):
        half, one, root = (self.constant(n, v) for n, v in (("half", .5), ("one", 1), ("root_2", np.sqrt(2))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", self.op("Erf", self.op("Div", x, root)), one)), half)


def positions_of(g, config):
    """The embeddings of the tokens' positions."""
    table = g.weight("embeddings.position_embeddings.weight")
    if config["model_type"] == "bert":
        return g.op("Slice", table, g.ints(0), g.op("Slice", g.op("Shape", "input_ids"), g.ints(1), g.ints(2)), g.ints(0))
    # Those of RoBERTa count the tokens that are no padding, from behind its position on.
    padding = g.ints(config["pad_token_id"])
    token = g.op("Cast", g.op("Not", g.op("Equal", "input_ids", padding)), to=TensorProto.INT64)
    count = g.op("CumSum", token, g.ints(1))
    return g.op("Gather", table, g.op("Add", g.op("Mul", count, token), padding))


def hidden_states(g, config):
    """The last layer's output for every token."""
    dim, heads, eps = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    positions = positions_of(g, config)
    x = g.op("Add", g.op("Gather", g.weight("embeddings.word_embeddings.weight"), "input_ids"), positions)
    x = g.op("Add", x, g.constant("token_type_0", g.weights["embeddings.token_type_embeddings.weight"][0]))
    x = g.norm(x, "embeddings.LayerNorm", eps)
    mask = g.op("Cast", g.op("Unsqueeze", "attention_mask", g.ints(1, 2)), to=helper.np_dtype_to_tensor_dtype(np.dtype(g.dtype)))
    hide = g.op("Mul", g.op("Sub", g.constant("one", 1), mask), g.constant("lowest", np.finfo(g.dtype).min))
    scale = g.constant("scale", 1 / np.sqrt(dim // heads))
    apart, together = g.ints(0, 0, heads, dim // heads), g.ints(0, 0, dim)
    for layer in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{layer}."
        q, k, v = (g.op("Reshape", g.linear(x, p + "attention.self." + n), apart) for n in ("query", "key", "value"))
        scores = g.op("MatMul", g.op("Transpose", q, perm=[0, 2, 1, 3]), g.op("Transpose", k, perm=[0, 2, 3, 1]))
        share = g.op("Softmax", g.op("Add", g.op("Mul", scores, scale), hide), axis=-1)
        mixed = g.op("MatMul", share, g.op("Transpose", v, perm=[0, 2, 1, 3]))
        mixed = g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), together)
        x = g.norm(g.op("Add", g.linear(mixed, p + "attention.output.dense"), x), p + "attention.output.LayerNorm", eps)
        inner = g.linear(x, p + "intermediate.dense")
        inner = g.gelu(inner) if config["hidden_act"] == "gelu" else g.op("Relu", inner)
        x = g.norm(g.op("Add", g.linear(inner, p + "output.dense"), x), p + "output.LayerNorm", eps)
    return x


def pooled(g, x, pooling, normalize):
    """One row a text, in float32."""
    x = g.op("Cast", x, to=TensorProto.FLOAT)
    mask = g.op("Unsqueeze", g.op("Cast", "attention_mask", to=TensorProto.FLOAT), g.ints(2))
    if pooling == "cls":
        x = g.op("Gather", x, g.constant("first", 0, np.int64), axis=1)
    elif pooling == "max":
        lowest = g.constant("lowest_32", np.finfo(np.float32).min, np.float32)
        x = g.op("ReduceMax", g.op("Where", g.op("Cast", mask, to=TensorProto.BOOL), x, lowest), axes=[1], keepdims=0)
    else:
        count = g.op("Max", g.op("ReduceSum", mask, g.ints(1), keepdims=0), g.constant("least", 1e-9, np.float32))
        x = g.op("Div", g.op("ReduceSum", g.op("Mul", x, mask), g.ints(1), keepdims=0), count)
    if normalize:
        length = g.op("ReduceL2", x, axes=[1], keepdims=1)
        x = g.op("Div", x, g.op("Max", length, g.constant("least_length", 1e-12, np.float32)))
    return x


def modules(source):
    """Pooling and whether to normalize, as the directory says."""
    pooling, normalize = "mean", False
    for m in read_json(source / "modules.json", []):
        kind = m["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            c = read_json(source / m["path"] / "config.json")
            modes = [k for k in ("cls_token", "max_tokens", "mean_tokens")
                     if c.get("pooling_mode_" + k) or c.get("pooling_mode") == k.split("_")[0]]
            if len(modes) != 1 or any(c.get("pooling_mode_" + k) for k in ("mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")):
                sys.exit(f"{source}: the pooling is none of cls, max and mean")
            pooling = modes[0].split("_")[0]
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            sys.exit(f"{source}: the module {kind} is not known")
    return pooling, normalize


def build(source, half=False, hidden=False):
    """Returns the ONNX model of a sentence-transformers directory."""
    config = read_json(source / "config.json")
    kind = config.get("model_type")
    if kind not in ("bert", "roberta") or config.get("position_embedding_type", "absolute") != "absolute" \
            or config["hidden_act"] not in ("gelu", "relu"):
        sys.exit(f"{source}: not a BERT or RoBERTa with absolute positions and GELU or ReLU")
    weights = {n.removeprefix(kind + "."): w for n, w in read_safetensors(source / "model.safetensors").items()}
    pooling, normalize = modules(source)
    g = Graph(weights, np.float16 if half else np.float32)
    x = hidden_states(g, config)
    elem, dim = (TensorProto.FLOAT16 if half else TensorProto.FLOAT), config["hidden_size"]
    if hidden:
        output, shape = "last_hidden_state", ["batch", "sequence", dim]
    else:
        output, shape = "sentence_embedding", ["batch", dim]
        x = g.op("Cast", pooled(g, x, pooling, normalize), to=elem)
    g.nodes.append(helper.make_node("Identity", [x], [output], name=output))
    graph = helper.make_graph(
        g.nodes, "bert",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "sequence"]) for n in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info(output, elem, shape)], g.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="permafrost tools/onnx")
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("model_dir", type=pathlib.Path)
    p.add_argument("out_dir", type=pathlib.Path)
    p.add_argument("--float16", action="store_true", help="weights, arithmetic and output in float16")
    p.add_argument("--hidden", action="store_true", help="the tokens' vectors instead of a pooled one")
    a = p.parse_args()
    model = build(a.model_dir, a.float16, a.hidden)
    a.out_dir.mkdir(parents=True, exist_ok=True)
    onnx.save(model, a.out_dir / "model.onnx")
    for name in BESIDE:
        if (a.model_dir / name).exists():
            shutil.copyfile(a.model_dir / name, a.out_dir / name)
    if a.hidden:
        for name in ("modules.json", "1_Pooling/config.json"):
            if (a.model_dir / name).exists():
                (a.out_dir / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(a.model_dir / name, a.out_dir / name)


if __name__ == "__main__":
    main()
