#!/usr/bin/env python3
"""Writes the tiny text models of encode/onnx/testdata, and what they must give.

    tiny.py OUT_DIR [roberta]

Needs onnx and sentence-transformers, which computes the reference: a model
with random weights from a fixed seed, loaded by it from a directory like any
other. Each variant of the graph lies in a folder of its own:

    tiny     [batch, dim], pooled and normalized in the graph
    hidden   [batch, sequence, dim], in a folder onnx, with modules.json beside
    half     as tiny, float16
    open     as hidden, but the output's shape is not declared
    fixed    as tiny, of 3 rows of 12 tokens, int32 inputs and token_type_ids
    external as tiny, with the weights in a file of their own
    slow     a loop that takes minutes, to be cancelled
    roberta  of encode/bert/testdata/roberta, where its reference is too; with
             the argument roberta it alone is written, which needs onnx alone
"""
import json
import os
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper

import bert

os.environ["HF_HUB_OFFLINE"] = "1"
DIM, INNER, LAYERS, HEADS, POSITIONS = 16, 32, 2, 4, 24
WORDS = """[PAD] [UNK] [CLS] [SEP] [MASK] how do i get a new key the cat sat on mat password reset cloud data cost price
when is it free to run ##s ##ing ##ed ##er ##ly un red green blue . , ! ? ' - 1 2 3 caf ##e e""".split()
TEXTS = ["how do i reset the password?", "the cat sat on the mat.", "", "a", "unpriced clouds", "RESETTING KEYS!", "café, café; CAFÉ",
         "word that is not known", "how " * 40, "[SEP] the [MASK]", "is it free to run 1 2 3", "red green blue", "\u0000\t ", "猫 cat"]


def weights():
    r = np.random.default_rng(20)
    def normal(*shape, scale=.3):
        return (r.standard_normal(shape) * scale).astype(np.float32)
    w = {"embeddings.word_embeddings.weight": normal(len(WORDS), DIM, scale=1),
         "embeddings.position_embeddings.weight": normal(POSITIONS, DIM, scale=.5),
         "embeddings.token_type_embeddings.weight": normal(2, DIM)}
    def norm(name):
        w[name + ".weight"], w[name + ".bias"] = 1 + normal(DIM), normal(DIM)
    def linear(name, rows, columns):
        w[name + ".weight"], w[name + ".bias"] = normal(rows, columns), normal(rows)
    norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        p = f"encoder.layer.{layer}."
        for n in ("query", "key", "value"):
            linear(p + "attention.self." + n, DIM, DIM)
        linear(p + "attention.output.dense", DIM, DIM)
        norm(p + "attention.output.LayerNorm")
        linear(p + "intermediate.dense", INNER, DIM)
        linear(p + "output.dense", DIM, INNER)
        norm(p + "output.LayerNorm")
    return w


def write_safetensors(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [len(data), len(data) + t.nbytes]}
        data += t.tobytes()
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)


def write_directory(path):
    """A directory as sentence-transformers publishes them."""
    special = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
               for i, t in enumerate(WORDS[:5])]
    def around(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}
    configs = {
        "config.json": {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": DIM, "intermediate_size": INNER,
                        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "max_position_embeddings": POSITIONS,
                        "vocab_size": len(WORDS), "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0},
        "tokenizer.json": {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing",
                               "single": [around("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, around("[SEP]")],
                               "pair": [around("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, around("[SEP]"),
                                        {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
                               "special_tokens": {t: {"id": t, "ids": [WORDS.index(t)], "tokens": [t]} for t in ("[CLS]", "[SEP]")}},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                      "vocab": {t: i for i, t in enumerate(WORDS)}}},
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True, "model_max_length": POSITIONS,
                                  **{t[1:-1].lower() + "_token": t for t in WORDS[:5]}},
        "sentence_bert_config.json": {"max_seq_length": 12, "do_lower_case": False},
        "modules.json": [{"idx": i, "name": str(i), "path": p, "type": "sentence_transformers.models." + t}
                         for i, (p, t) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])],
        "1_Pooling/config.json": {"word_embedding_dimension": DIM, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
                                  "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False},
    }
    (path / "1_Pooling").mkdir(parents=True)
    (path / "2_Normalize").mkdir()
    for name, c in configs.items():
        (path / name).write_text(json.dumps(c, ensure_ascii=False, separators=(",", ":")) + "\n", "utf8")
    write_safetensors(path / "model.safetensors", weights())


def fixed(model, rows=3, tokens=12):
    """Other inputs: int32, of one size, and token_type_ids, which nothing reads."""
    g = model.graph
    casts = []
    for i in list(g.input):
        for n in g.node:
            n.input[:] = [x + "_64" if x == i.name else x for x in n.input]
        casts.append(helper.make_node("Cast", [i.name], [i.name + "_64"], to=TensorProto.INT64))
    names = [i.name for i in g.input] + ["token_type_ids"]
    del g.input[:]
    g.input.extend(helper.make_tensor_value_info(n, TensorProto.INT32, [rows, tokens]) for n in names)
    for n in reversed(casts):
        g.node.insert(0, n)
    del g.output[0].type.tensor_type.shape.dim[0]
    g.output[0].type.tensor_type.shape.dim.insert(0, onnx.TensorShapeProto.Dimension(dim_value=rows))
    return model


def slow(turns=100_000_000):
    """Adds up what goes in, and then turns in a loop."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes_on"]), helper.make_node("Cos", ["x"], ["y"])], "body",
        [helper.make_tensor_value_info("turn", TensorProto.INT64, []), helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence"])],
        [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence"])])
    nodes = [helper.make_node("Add", ["input_ids", "attention_mask"], ["sum"]), helper.make_node("Cast", ["sum"], ["x0"], to=TensorProto.FLOAT),
             helper.make_node("Loop", ["turns", "", "x0"], ["last"], body=body),
             helper.make_node("ReduceSum", ["last", "axis"], ["embedding"], keepdims=1)]
    graph = helper.make_graph(
        nodes, "slow",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "sequence"]) for n in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 1])],
        [onnx.numpy_helper.from_array(np.array(turns, np.int64), "turns"), onnx.numpy_helper.from_array(np.array([1], np.int64), "axis")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def write_roberta(target):
    """A RoBERTa, with a byte-level BPE tokenizer."""
    source = pathlib.Path(__file__).parents[2] / "encode/bert/testdata/roberta"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    onnx.save(bert.build(source), target / "model.onnx")
    for f in ("config.json", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json"):
        shutil.copyfile(source / f, target / f)


def main():
    out = pathlib.Path(sys.argv[1])
    write_roberta(out / "roberta")
    if sys.argv[2:] == ["roberta"]:
        return
    with tempfile.TemporaryDirectory() as tmp:
        source = pathlib.Path(tmp) / "tiny"
        write_directory(source)
        tiny, hidden, half = bert.build(source), bert.build(source, hidden=True), bert.build(source, half=True)
        unsaid = onnx.ModelProto()
        unsaid.CopyFrom(hidden)
        unsaid.graph.output[0].type.tensor_type.ClearField("shape")
        plain = ["config.json", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json"]
        modules = plain + ["modules.json", "1_Pooling/config.json"]
        for name, model, files, file in (
                ("tiny", tiny, plain, "model.onnx"), ("hidden", hidden, modules, "onnx/model.onnx"), ("half", half, plain, "model.onnx"),
                ("open", unsaid, modules, "model.onnx"), ("fixed", fixed(bert.build(source)), plain, "model.onnx"),
                ("external", bert.build(source), plain, "model.onnx"), ("slow", slow(), plain, "model.onnx")):
            shutil.rmtree(out / name, ignore_errors=True)
            target = out / name / file
            target.parent.mkdir(parents=True)
            if name == "external":
                onnx.save(model, target, save_as_external_data=True, location="weights.bin", size_threshold=512)
            else:
                onnx.save(model, target)
            for f in files:
                (out / name / f).parent.mkdir(exist_ok=True)
                shutil.copyfile(source / f, out / name / f)

        from sentence_transformers import SentenceTransformer
        st = SentenceTransformer(str(source), device="cpu")
        tokens = st.encode(TEXTS, output_value="token_embeddings")
        reference = {
            "texts": TEXTS,
            "mean": st.encode(TEXTS).astype(float).tolist(),
            "cls": [t[0].numpy().astype(float).tolist() for t in tokens],
            "max": [t.numpy().max(0).astype(float).tolist() for t in tokens],
        }
        (out / "reference.json").write_text(json.dumps(reference) + "\n", "utf8")


if __name__ == "__main__":
    main()
