#!/usr/bin/env python3
"""Writes a small vision network: the image encoder of testdata/images.yaml and of the tests.

    vision.py OUT_DIR [--variants DIR]

Nothing in it is learned. Filters for edges of eight directions at two sizes,
for spots and for color (the first layer), and random combinations of them from
a fixed seed (the second) make 32 maps of features; their means and maxima over
the picture are the 64 values of image_embeds, float32 [batch, 64], of length 1.
The input is pixel_values, float32 [batch, 3, height, width].

With --variants, DIR gets graphs for the tests of the engine: planes (the maps
themselves), half (float16 inside and out) and single (one picture a run), and
pictures.json: pictures and the values that ONNX Runtime gives when Pillow
prepares them.
"""
import argparse
import base64
import io
import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import pictures
import shapes

SIZE, MAPS = 32, 32


def filters():
    """The first layer: [24, 3, 7, 7]."""
    y, x = np.mgrid[-3:4, -3:4].astype(np.float64)
    bank = []
    gray = np.full(3, 1 / 3)
    for width in (1., 1.8):
        window = np.exp(-(x * x + y * y) / (2 * width * width))
        for k in range(8):
            across = x * np.cos(k * np.pi / 8) + y * np.sin(k * np.pi / 8)
            bank.append(gray[:, None, None] * (across * window)[None])
        spot = window - np.exp(-(x * x + y * y) / (6 * width * width)) / 3
        bank.append(gray[:, None, None] * (spot - spot.mean())[None])
    window = np.exp(-(x * x + y * y) / 4)
    for color in ((1, -1, 0), (-.5, -.5, 1), (1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        bank.append(np.array(color)[:, None, None] * window[None])
    bank = np.stack(bank)
    return bank / np.abs(bank).sum((1, 2, 3), keepdims=True)


def build(half=False, planes=False, batch="batch"):
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    r = np.random.default_rng(64)
    first = filters()
    second = r.standard_normal((MAPS, 2 * len(first), 3, 3)) / np.sqrt(2 * len(first) * 9)
    weights = [numpy_helper.from_array(np.ascontiguousarray(a, dtype), n) for n, a in (
        ("first", first), ("second", second), ("bias", r.standard_normal(MAPS) * .02), ("least", np.array(1e-4)), ("scale", np.array(8.)))]
    weights.append(numpy_helper.from_array(np.array([2, 3], np.int64), "plane"))
    def n(op, inputs, output, **k):
        return helper.make_node(op, inputs, [output], name=output, **k)
    nodes = [n("Conv", ["pixel_values", "first"], "filtered", pads=[3] * 4), n("Relu", ["filtered"], "light"),
             n("Neg", ["filtered"], "negative"), n("Relu", ["negative"], "dark"), n("Concat", ["light", "dark"], "both", axis=1),
             n("MaxPool", ["both"], "smaller", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), n("Mul", ["smaller", "scale"], "louder"),
             n("Conv", ["louder", "second", "bias"], "mixed"), n("Relu", ["mixed"], "maps")]
    if planes:
        edge = SIZE // 2 - 2
        output = helper.make_tensor_value_info("maps", kind, [batch, MAPS, edge, edge])
    else:
        nodes += [n("ReduceMean", ["maps"], "means", axes=[2, 3], keepdims=0), n("ReduceMax", ["maps"], "maxima", axes=[2, 3], keepdims=0),
                  n("Concat", ["means", "maxima"], "features", axis=1), n("ReduceL2", ["features"], "length", axes=[1], keepdims=1),
                  n("Max", ["length", "least"], "divisor"), n("Div", ["features", "divisor"], "image_embeds")]
        output = helper.make_tensor_value_info("image_embeds", kind, [batch, 2 * MAPS])
    graph = helper.make_graph(nodes, "vision", [helper.make_tensor_value_info("pixel_values", kind, [batch, 3, SIZE, SIZE])], [output],
                              [w for w in weights if any(w.name in node.input for node in nodes)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="permafrost tools/onnx")
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


CONFIG = {"do_convert_rgb": True, "do_resize": True, "size": {"shortest_edge": 36}, "resample": 3, "do_center_crop": True,
          "crop_size": {"height": SIZE, "width": SIZE}, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
          "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}


def write(folder, model):
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    (folder / "preprocessor_config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")


def references():
    import onnxruntime as ort
    files = {n: f for n, f in pictures.pictures().items() if n in ("rgb.png", "tall.png", "rgba.png", "palette.gif", "lossless.webp")}
    for label in shapes.LABELS:
        files[label + ".png"] = shapes.png(label, 0)
    pixels = np.stack([pictures.prepare(f, CONFIG) for f in files.values()])
    run = {name: ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"pixel_values": pixels})[0].astype(float)
           for name, m in (("pooled", build()), ("planes", build(planes=True)))}
    return {"names": list(files), "files": [base64.b64encode(f).decode() for f in files.values()], "pooled": run["pooled"].tolist(),
            "mean": run["planes"].mean((2, 3)).tolist(), "max": run["planes"].max((2, 3)).tolist()}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("out_dir", type=pathlib.Path)
    p.add_argument("--variants", type=pathlib.Path)
    a = p.parse_args()
    write(a.out_dir, build())
    if a.variants:
        write(a.variants / "planes", build(planes=True))
        write(a.variants / "vision_half", build(half=True))
        write(a.variants / "single", build(batch=1))
        (a.variants / "pictures.json").write_text(json.dumps(references()) + "\n")


if __name__ == "__main__":
    main()
