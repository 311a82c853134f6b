#!/usr/bin/env python3
"""Holds exported heads to the programs that read them.

    check.py convert ONNX_MODELS DIR                        (onnx)
    check.py torch PIPELINE MODEL ONNX_MODELS DIR           (sentence-transformers)
    check.py onnx DIR                                       (onnx, onnxruntime)

"convert" makes graphs of later opsets of the encoder. "torch" trains a head of
every type on the committed questions, over the sentence-transformers directory
MODEL and over its ONNX graphs, with the program PIPELINE, exports each in all
forms, and compares what PyTorch and sentence-transformers make of texts with
`pipeline encode`. "onnx" does so for ONNX Runtime, of which it also checks the
files. Everything is kept in DIR. Values may differ by 1e-5 of the larger of 1
and the value.
"""
import json
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5
HEADS = {
    "empty": dict(type="empty"),
    "gated": dict(type="gated", dropout=0.1),
    "layer_norm": dict(type="layer_norm"),
    "skip_connection": dict(type="skip_connection", n_layers=2, dropout=0.1, skip_dropout=0.1),
    "widening": dict(type="widening", expansion_factor=1.5),
    "softmax_embeddings": dict(type="softmax_embeddings", output_groups=4, output_size_per_group=8),
    "sequential": dict(type="sequential", heads=[
        dict(type="skip_connection"), dict(type="layer_norm"), dict(type="stacked_projection", output_sizes=[64, 32], activation_fn="gelu"), dict(type="gated")]),
    "switch": dict(type="switch", options=dict(
        question=dict(type="stacked_projection", output_sizes=[48, 16], activation_fn="silu"), answer=dict(type="softmax_embeddings", output_groups=2, output_size_per_group=8))),
} | {f: dict(type="stacked_projection", output_sizes=[96, 48, 24], activation_fn=f)
     for f in ("elu", "gelu", "identity", "leaky_relu", "relu", "sigmoid", "silu", "tanh")}
# Heads that sentence-transformers has no modules for.
NO_MODULES = {"softmax_embeddings", "switch"}
# The graphs of the encoder: the output is pooled within, or by the engine.
GRAPHS = ("minilm", "minilm-hidden", "opset-18", "opset-21")


def rows():
    for name in ("faq.jsonl", "faq_val.jsonl"):
        for line in (ROOT / "testdata" / name).read_text("utf8").splitlines():
            row = json.loads(line)
            yield from ((kind, row[kind], row["category"]) for kind in ("question", "answer"))


def same(what, got, want):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        sys.exit(f"{what}: the shape is {got.shape}, not {want.shape}")
    off = (np.abs(got - want) / np.maximum(1, np.abs(want))).max()
    if not off <= TOLERANCE:
        sys.exit(f"{what}: off by {off:.2e}")
    return off


class Session:
    """A user's session with the program."""

    def __init__(self, pipeline, folder):
        self.pipeline, self.folder = pipeline, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.write("train.jsonl", [dict(kind=k, text=t, label=c) for k, t, c in rows()])
        texts = [t for _, t, _ in rows()][-24:] + ["", "naïve café – ₂", "word " * 400]
        self.texts, self.kinds = texts, [("question", "answer")[i % 2] for i in range(len(texts))]
        self.write("texts.jsonl", [dict(kind=k, text=t) for k, t in zip(self.kinds, texts)])

    def write(self, name, records):
        (self.folder / name).write_text("".join(json.dumps(r) + "\n" for r in records), "utf8")

    def run(self, *args):
        done = subprocess.run([self.pipeline, *args], cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"pipeline {' '.join(args)}: {done.stderr}")
        return done.stdout

    def train(self, out, encoder, head):
        config = dict(
            version=1, seed=7, encoders=dict(enc=encoder), cache=dict(save_dir="cache"), head=head, loss=dict(type="softmax"),
            train=dict(epochs=3, batch_size=32, optimizer=dict(type="adam", lr=0.01)), output=out,
            dataset=dict(splits=dict(train=dict(jsonl="train.jsonl")), group=dict(object=dict(kind="kind", text="text"), label="label")))
        (self.folder / f"{out}.yaml").write_text(json.dumps(config))
        self.run("run", f"{out}.yaml", "--progress", "none")

    def encode(self, out):
        lines = self.run("encode", out, "--input", "texts.jsonl").splitlines()
        return np.array([json.loads(line)["embedding"] for line in lines], np.float32)


def torch_part(pipeline, model, graphs, folder):
    import safetensors.torch
    import torch
    from sentence_transformers import SentenceTransformer

    sys.path.insert(0, str(ROOT / "pipeline" / "head" / "testdata"))
    import gen

    s = Session(pipeline, folder)
    bert = dict(type="bert", model=str(model))
    switch = dict(type="switch", by="kind", options=dict(question=bert, answer=bert))
    plain = SentenceTransformer(str(model), device="cpu")
    tokens = {k: v.numpy() for k, v in plain.preprocess(s.texts).items() if isinstance(v, torch.Tensor)}
    np.savez(folder / "tokens.npz", **tokens)
    worst = dict(torch=0.0, modules=0.0)
    for name, head in HEADS.items():
        s.train(name, switch if name == "switch" else bert, head)
        want = s.encode(name)
        np.save(folder / f"{name}.npy", want)
        s.run("export", name, "--head", "onnx", "--output", f"{name}.onnx", "--force")
        if name == "empty":
            raw = want
            np.save(folder / "raw.npy", raw)
            same("the encoder", plain.encode(s.texts, convert_to_numpy=True), raw)
        weights = {k: v.double() for k, v in safetensors.torch.load_file(folder / name / "head.safetensors").items()}
        y = gen.run(weights.__getitem__, torch.tensor(raw).double(), head, s.kinds)
        worst["torch"] = max(worst["torch"], same(f"{name} in PyTorch", y, want))
        if name in NO_MODULES:
            done = subprocess.run([pipeline, "export", name, "--head", "sentence-transformers", "--output", "no"], cwd=folder, capture_output=True)
            assert done.returncode == 2 and not (folder / "no").exists(), name
            continue
        s.run("export", name, "--head", "sentence-transformers", "--output", f"{name}-model", "--force")
        loaded = SentenceTransformer(str(folder / f"{name}-model"), device="cpu")
        worst["modules"] = max(worst["modules"], same(f"{name} in sentence-transformers", loaded.encode(s.texts, convert_to_numpy=True), want))
    # Options of the encoder that change its embeddings, and a directory of
    # modules as the base of the next head.
    for name, options in dict(
            short=dict(max_length=12), cut=dict(truncate_dim=100), unit=dict(truncate_dim=100, normalize=True), raw=dict(normalize=False),
            cls=dict(pooling="cls"), again=dict(model=str(folder / "gelu-model"))).items():
        s.train(f"bert-{name}", bert | options, dict(type="skip_connection"))
        s.run("export", f"bert-{name}", "--head", "sentence-transformers", "--output", f"bert-{name}-model", "--force")
        loaded = SentenceTransformer(str(folder / f"bert-{name}-model"), device="cpu")
        off = same(f"bert {name} in sentence-transformers", loaded.encode(s.texts, convert_to_numpy=True), s.encode(f"bert-{name}"))
        worst["modules"] = max(worst["modules"], off)
    for graph in GRAPHS:
        where = folder / graph if (folder / graph).exists() else graphs / graph
        for name in ("sequential", "softmax_embeddings"):
            out = f"{graph}-{name}"
            s.train(out, dict(type="onnx", model=str(where)), HEADS[name])
            np.save(folder / f"{out}.npy", s.encode(out))
            s.run("export", out, "--head", "joined-onnx", "--output", f"{out}.onnx", "--force")
            # The directory of the same model for sentence-transformers.
            if name not in NO_MODULES:
                s.run("export", out, "--head", "sentence-transformers", "--base", str(model), "--output", f"{out}-model", "--force")
                loaded = SentenceTransformer(str(folder / f"{out}-model"), device="cpu")
                worst["modules"] = max(worst["modules"], same(f"{out} in sentence-transformers", loaded.encode(s.texts, convert_to_numpy=True), s.encode(out)))
    print(f"PyTorch: {len(HEADS)} heads, off by {worst['torch']:.1e} at most; sentence-transformers: by {worst['modules']:.1e}")


def onnx_part(folder):
    import onnx
    import onnxruntime as ort

    def session(file):
        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        return ort.InferenceSession(file, providers=["CPUExecutionProvider"]), {p.key: json.loads(p.value) for p in model.metadata_props}

    raw, worst, files = np.load(folder / "raw.npy"), 0.0, 0
    for name in HEADS:
        run, options = session(folder / f"{name}.onnx")
        feed = dict(encoder_embedding=raw)
        if name == "switch":
            kinds = [json.loads(line)["kind"] for line in (folder / "texts.jsonl").read_text("utf8").splitlines()]
            feed["choice"] = np.array([options["permafrost.choice"].index(k) for k in kinds])
        want = np.load(folder / f"{name}.npy")
        for rows in (slice(None), slice(3, 4)):  # batches of any size
            got, = run.run(["embedding"], {k: v[rows] for k, v in feed.items()})
            worst = max(worst, same(f"{name} in ONNX Runtime", got, want[rows]))
        files += 1
    tokens = dict(np.load(folder / "tokens.npz"))
    for graph in GRAPHS:
        for name in ("sequential", "softmax_embeddings"):
            run, _ = session(folder / f"{graph}-{name}.onnx")
            output, = (o.name for o in run.get_outputs())
            got, = run.run([output], {i.name: tokens[i.name] for i in run.get_inputs()})
            worst = max(worst, same(f"{graph} with {name} in ONNX Runtime", got, np.load(folder / f"{graph}-{name}.npy")))
            files += 1
    print(f"ONNX Runtime: {files} files, off by {worst:.1e} at most")


def convert(graphs, folder):
    import shutil

    import onnx
    import onnx.version_converter

    for opset in (18, 21):
        to = folder / f"opset-{opset}"
        shutil.copytree(graphs / "minilm-hidden", to, dirs_exist_ok=True)
        onnx.save(onnx.version_converter.convert_version(onnx.load(to / "model.onnx"), opset), to / "model.onnx")


def main():
    what, *paths = sys.argv[1:] or [""]
    parts = dict(convert=convert, torch=torch_part, onnx=onnx_part)
    if what not in parts:
        sys.exit(__doc__)
    parts[what](*(pathlib.Path(p).resolve() for p in paths))


if __name__ == "__main__":
    main()
