#!/usr/bin/env python3
"""Fills a cache of pairs and groups with two encoders and many shards, adds
rows to it in a second fill, and asks four independent implementations of
Arrow for 100 named rows: pyarrow, Polars, arrow-rs and Arrow JS each join the
split with the embeddings, by position and by id, and must find the very bits
that the encoders give without a cache. Then prints what each makes of the
other dtypes and compressions.

usage: many.py PIPELINE DIRECT ARROW-RS ARROW-JS, the programs; the last is the folder
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc

BERT = pathlib.Path(__file__).resolve().parents[2] / "encode/bert/testdata/bert"
CONFIG = """
version: 1
dataset:
  splits: {%s: {jsonl: %s.jsonl}}
  %s
  keep: [n]
encoders:
  content: {type: static, input: text}
  attitude: {type: bert, model: %s, input: text}
cache: {save_dir: cache, batch_size: 8, shard_objects: 100, record_batch_rows: 64}
"""
SAMPLES = {"pairs": "pair: {a: {text: a}, b: {text: b}}", "groups": "group: {object: {text: a}, label: n}"}
WORDS = "how do I reset my card balance transfer fee limit abroad quickly größer 你好 👋".split()


def rows(first, n):
    for i in range(first, first + n):
        text = lambda k: " ".join(WORDS[(i * j + k) % len(WORDS)] for j in range(1, 2 + (i + k) % 6)) + f" {i * 7 // 9} {k}"
        yield {"a": text(0), "b": text(1), "n": i}


def newest(cache):
    return json.loads(max((cache / "manifests").glob("*.json")).read_text())


def decode(values, scale):
    x = np.asarray(values)
    return x.astype(np.float32) if scale is None else x.astype(np.float32) * np.asarray(scale, np.float32)[:, None]


def with_pyarrow(files):
    t = pa.concat_tables([ipc.open_file(pa.memory_map(str(f))).read_all() for f in files])
    t.validate(full=True)
    if "embedding" not in t.column_names:
        return t.to_pydict()
    x = t["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(t), -1)
    return {"id": t["id"].to_pylist(), "embedding": decode(x, t["scale"].to_numpy() if "scale" in t.column_names else None)}


def with_polars(files):
    t = pl.concat([pl.read_ipc(f) for f in files])
    if "embedding" not in t.columns:
        return t.to_dict(as_series=False)
    return {"id": t["id"].to_list(), "embedding": decode(t["embedding"].to_numpy(), t["scale"].to_numpy() if "scale" in t.columns else None)}


def ask(read):
    """A reader in Python: (cache, questions) -> answers, two texts each."""
    def answer(cache, questions):
        m, splits, stored, out = newest(cache), {}, {}, []
        for q in json.loads(questions.read_text()):
            split = [s for s in m["splits"] if s["name"] == q["split"]][-1]  # in order of commit
            folder = next(e["folder"] for e in split["encoders"] if e["name"] == q["encoder"])
            if q["split"] not in splits:
                splits[q["split"]] = read([cache / f["file"] for f in split["files"]])
            if folder not in stored:
                e = read([cache / s["file"] for e in m["encoders"] if e["folder"] == folder for s in e["shards"]])
                stored[folder] = e["embedding"], {i: at for at, i in reversed(list(enumerate(e["id"])))}
            x, by_id = stored[folder]
            cell = lambda role: splits[q["split"]][f"{q['encoder']}{q['side']}_{role}"][q["row"]]
            out.append([x[cell("pos")].tobytes().hex(), x[by_id[cell("id")]].tobytes().hex()])
        return out
    return answer


def program(*command, after=()):
    def answer(cache, questions):
        p = subprocess.run([*command, cache, questions, *after], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if p.returncode:
            said = [line for line in p.stderr.splitlines() if "rror" in line] or ["no word"]
            raise RuntimeError(said[0].strip())
        return [line.split() for line in p.stdout.splitlines()]
    return answer


def expected(x, dtype):
    if dtype == "float16":
        return x.astype(np.float16).astype(np.float32)
    if dtype == "int8":
        scale = np.abs(x).max() / np.float32(127)
        return np.rint(x / scale).astype(np.int8).astype(np.float32) * scale
    return x


def main() -> None:
    pipeline, direct, rust, script = (pathlib.Path(p).resolve() for p in sys.argv[1:5])
    js = ("node", script / "read.mjs")
    readers = {"pyarrow": ask(with_pyarrow), "Polars": ask(with_polars), "arrow-rs": program(rust), "Arrow JS": program(*js)}
    versions = {m.__name__: m.__version__ for m in (pa, pl)}
    print(versions, "arrow-rs and Arrow JS as their lock files say")
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        dir = pathlib.Path(tmp)

        def fill(kind, *sets):
            sets = [s for pair in sets for s in ("--set", pair)]
            (dir / f"{kind}.yaml").write_text(CONFIG % (kind, kind, SAMPLES[kind], BERT))
            out = subprocess.run([pipeline, "fill", f"{kind}.yaml", "--json", "--progress", "none", *sets], cwd=dir, check=True, stdout=subprocess.PIPE).stdout
            return json.loads(out)["fill"]

        data = {"pairs": list(rows(0, 700)), "groups": list(rows(300, 300))}
        write = lambda: [(dir / f"{k}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rs)) for k, rs in data.items()]
        write()
        fill("pairs"), fill("groups")
        data["pairs"][40:40] = rows(5000, 30)  # in the middle: every row after them moves
        write()
        again = fill("pairs")
        assert again["encoded"] == 2 * 60, again  # two encoders, two sides
        m = newest(dir / "cache")
        assert m["generation"] == 3 and all(len(e["shards"]) >= 14 for e in m["encoders"]), m

        dice = random.Random(7)
        questions, texts = [], []
        for i in range(100):
            kind = "groups" if i % 4 == 3 else "pairs"
            at = dice.choice(range(40, 70)) if i % 10 == 0 and kind == "pairs" else dice.randrange(len(data[kind]))
            side = "" if kind == "groups" else "_" + dice.choice("ab")
            for encoder in ("content", "attitude"):
                questions.append({"split": kind, "row": at, "encoder": encoder, "side": side})
            texts.append(data[kind][at]["b" if side == "_b" else "a"])
        (dir / "questions.json").write_text(json.dumps(questions))
        said = subprocess.run([direct, BERT], input="\n".join(texts) + "\n", check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        truth = [np.frombuffer(bytes.fromhex(h), np.float32) for h in said]
        assert len(truth) == len(questions)

        def verdict(reader, cache, dtype):
            want = [expected(x, dtype).tobytes().hex() for x in truth]
            try:
                got = reader(cache, dir / "questions.json")
            except Exception as e:  # what a reader throws is its own affair
                return f"refuses: {str(e)[:90]}"
            return "the same bits" if got == [[w, w] for w in want] else "OTHER VALUES"

        for name, reader in readers.items():
            v = verdict(reader, dir / "cache", "float32")
            bad += v != "the same bits"
            print(f"{name:9} 100 rows under 2 encoders, by position and by id, against the encoders: {v}")

        refusals = {("Arrow JS", "lz4"), ("Arrow JS", "zstd")}
        readers["Arrow JS with codecs"] = program(*js, after=("--codecs",))
        print(f"{'dtype':8} {'codec':5} reader")
        for dtype in ("float32", "float16", "int8"):
            for codec in ("none", "lz4", "zstd"):
                cache = dir / f"{dtype}-{codec}"
                for kind in data:
                    fill(kind, f"cache.save_dir={cache.name}", f"cache.dtype={dtype}", f"cache.compression={codec}")
                for name, reader in readers.items():
                    v = verdict(reader, cache, dtype)
                    refused = v.startswith("refuses")
                    ok = refused == ((name, codec) in refusals) if v != "OTHER VALUES" else False
                    bad += not ok
                    print(f"{dtype:8} {codec:5} {name:20} {v}{'' if ok else '   NOT AS EXPECTED'}")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
