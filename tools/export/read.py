#!/usr/bin/env python3
"""Fills caches with the command given first, exports them in every format and
reads the files with the programs that they are for: pyarrow, DuckDB, Polars,
NumPy, safetensors, json and Hugging Face datasets. What each gives must be
what pyarrow reads of the cache's own files, joined by position and decoded as
cachesink/doc.go says, bit for bit."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

import datasets
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import safetensors
import safetensors.numpy

CONFIG = """
version: 1
dataset:
  splits: {train: {jsonl: train.jsonl}, val: {jsonl: val.jsonl}}
  %s
  keep: [url, size, good]
encoders: {first: {type: static, input: text}, second: {type: static, input: text}}
cache: {save_dir: cache, shard_objects: 300, record_batch_rows: 128, dtype: {first: %s, second: %s}}
"""
KINDS = {
    "group": ("group: {object: {text: a}, label: label}", ["label"], [""]),
    "pair": ("pair: {a: {text: a}, b: {text: b}, score: score}", ["score", "subgroup"], ["_a", "_b"]),
}
WORDS = "how do I reset my card balance transfer fee limit abroad quickly".split()


def rows(n, seed):
    for i in range(n):
        text = lambda k: " ".join(WORDS[(i * j + k + seed) % len(WORDS)] for j in range(1, 6)) + f" {i * 7 // 9} {k}"
        yield {"a": text(0), "b": text(1), "label": f"l{i % 3}", "score": i / 8,
               "url": None if i % 5 == 0 else f"https://example.org/ü/{i}", "size": None if i % 7 == 0 else i * 1.1, "good": i % 3 == 0}


def read_cache(cache, split, sides):
    """The split as columns and float32 arrays, by pyarrow from the cache's files."""
    m = json.loads((cache / "MANIFEST.json").read_text())
    s = next(s for s in m["splits"] if s["name"] == split)
    t = pa.concat_tables([ipc.open_file(str(cache / f["file"])).read_all() for f in s["files"]])
    vectors, objects = {}, {}
    for e in s["encoders"]:
        if "folder" not in e:
            continue  # not cached
        enc = next(x for x in m["encoders"] if x["folder"] == e["folder"])
        u = pa.concat_tables([ipc.open_file(str(cache / f["file"])).read_all() for f in enc["shards"]])
        x = u["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(u), -1).astype(np.float32)
        if "scale" in u.column_names:
            x = x * u["scale"].to_numpy()[:, None]
        objects[e["name"]] = (u["id"].to_pylist(), x)
        for side in sides:
            vectors[e["name"] + side] = x[t[f"{e['name']}{side}_pos"].to_numpy()]
    return t, vectors, objects, {e["name"]: e["fingerprint"] for e in s["encoders"]}


def same(what, got, want):
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == np.float32 and got.shape == want.shape, (what, got.dtype, got.shape, want.shape)
    assert np.array_equal(got.view(np.uint32), want.view(np.uint32)), f"{what}: other values"


def main() -> None:
    datasets.disable_progress_bars()
    pipeline = pathlib.Path(sys.argv[1]).resolve()
    for kind, (sample, plain, sides) in KINDS.items():
        for first, second in (("float32", "float16"), ("int8", "float32")):
            with tempfile.TemporaryDirectory() as tmp:
                check(pipeline, pathlib.Path(tmp), CONFIG % (sample, first, second), plain, sides)
            print(f"{kind:5} first {first:7} second {second:7} every reader gives the bits of the cache")
    with tempfile.TemporaryDirectory() as tmp:
        mixed(pipeline, pathlib.Path(tmp))
    print("a cache of groups and pairs is a data set of two configurations")
    print(", ".join(f"{m.__name__} {m.__version__}" for m in (pa, duckdb, pl, np, safetensors, datasets)))


def mixed(pipeline, dir):
    """The golden cache's splits differ in their columns, so each is a configuration."""
    golden = pathlib.Path(__file__).resolve().parents[2] / "cachesink/testdata/golden/v1"
    subprocess.run([pipeline, "export", golden, "--format", "hf", "-o", dir / "hf", "--progress", "none"], check=True, stdout=subprocess.DEVNULL)
    for split, sides in (("train", [""]), ("val", ["_a", "_b"])):
        ds = datasets.load_dataset(str(dir / "hf"), split, cache_dir=str(dir / "hf-cache"))
        t, vectors, _, _ = read_cache(golden, split, sides)
        assert list(ds) == [split] and len(ds[split]) == len(t), ds
        ds.set_format("numpy")
        for name, x in vectors.items():
            same("datasets", np.stack(list(ds[split][name])), x)


def check(pipeline, dir, config, plain, sides):
    (dir / "c.yaml").write_text(config)
    counts = {"train": 1000, "val": 90}
    for seed, (split, n) in enumerate(counts.items()):
        (dir / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows(n, seed)))

    def run(*args):
        out = subprocess.run([pipeline, *args, "--progress", "none"], cwd=dir, check=True, stdout=subprocess.PIPE).stdout
        return json.loads(out) if "--json" in args else out

    def export(format, out, *args):
        doc = run("export", "cache", "--format", format, "--output", out, "--json", *args)
        assert doc["schema_version"] == 1 and doc["bytes"] == sum((dir / f["path"]).stat().st_size for f in doc["files"]), doc
        return doc

    run("fill", "c.yaml")
    t, vectors, objects, prints = read_cache(dir / "cache", "train", sides)
    n, plain = counts["train"], ["row", *plain, "url", "size", "good"]
    want = {name: t[name].to_pylist() for name in plain}
    ids = {}
    for e in prints:
        for side in sides:
            want[f"{e}{side}_key"] = t[f"{e}{side}_key"].to_pylist()
            ids[f"{e}{side}_id"] = t[f"{e}{side}_id"].to_pylist()
    assert any(v is None for v in want["url"]) and any(v is None for v in want["size"])

    def columns(what, get, hexadecimal=False):
        for name, values in want.items():
            assert get(name) == values, f"{what}: column {name}"
        for name, values in ids.items():
            got = get(name)
            assert got == [v.hex() if hexadecimal else v for v in values], f"{what}: column {name}"

    # Parquet, several row groups.
    assert export("parquet", "t.parquet", "--split", "train", "--batch-rows", "300")["rows"] == n
    f = pq.ParquetFile(dir / "t.parquet", page_checksum_verification=True)
    assert f.num_row_groups == 4 and f.metadata.metadata[b"permafrost.split"] == b"train"
    for e, fp in prints.items():
        assert f.metadata.metadata[f"permafrost.fingerprint.{e}".encode()] == fp.encode()
    p = f.read()
    p.validate(full=True)
    assert set(p.column_names) == set(want) | set(ids) | set(vectors), p.column_names
    columns("pyarrow parquet", lambda name: p[name].to_pylist())
    d = duckdb.connect()
    kinds = dict(d.sql(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '{dir}/t.parquet')").fetchall())
    q = pl.read_parquet(dir / "t.parquet")
    columns("Polars parquet", lambda name: q[name].to_list())
    table = d.sql(f"SELECT * FROM '{dir}/t.parquet' ORDER BY row").fetchall()
    order = list(kinds)
    columns("DuckDB parquet", lambda name: [r[order.index(name)] for r in table])
    for name, x in vectors.items():
        assert kinds[name] == "FLOAT[]", kinds[name]
        same("pyarrow parquet", p[name].combine_chunks().flatten().to_numpy().reshape(n, -1), x)
        same("Polars parquet", np.array(q[name].to_list(), np.float32), x)
        same("DuckDB parquet", np.array([r[order.index(name)] for r in table], np.float32), x)
        one = d.sql(f"SELECT list_cosine_similarity({name}, {name}) FROM '{dir}/t.parquet' WHERE row = 5").fetchall()[0][0]
        assert abs(one - 1) < 1e-5, one

    # Arrow stream, to a file and to a pipe.
    export("arrow", "t.arrows", "--split", "train", "--batch-rows", "300")
    assert (dir / "t.arrows").read_bytes() == run("export", "cache", "--format", "arrow", "-o", "-", "--split", "train", "--batch-rows", "300")
    a = ipc.open_stream(dir / "t.arrows").read_all()
    a.validate(full=True)
    columns("pyarrow stream", lambda name: a[name].to_pylist())
    for name, x in vectors.items():
        same("pyarrow stream", a[name].combine_chunks().flatten().to_numpy().reshape(n, -1), x)

    # JSON lines.
    export("jsonl", "t.jsonl", "--split", "train", "--batch-rows", "300")
    lines = [json.loads(line) for line in (dir / "t.jsonl").read_text().splitlines()]
    assert len(lines) == n
    columns("JSON lines", lambda name: [r[name] for r in lines], hexadecimal=True)
    for name, x in vectors.items():
        same("JSON lines", np.array([r[name] for r in lines], np.float32), x)

    # NumPy.
    for e in prints:
        for side in sides:
            export("npy", "t.npy", "--split", "train", "--encoder", e, "--force", *(["--side", side[1:]] if side else []))
            x = np.load(dir / "t.npy", mmap_mode="r")
            assert x.flags.aligned and x.flags.c_contiguous and x.offset % 64 == 0
            same("NumPy", x, vectors[e + side])

    # safetensors.
    export("safetensors", "t.safetensors", "--split", "train", "--batch-rows", "300")
    st = safetensors.numpy.load_file(dir / "t.safetensors")
    assert set(st) == set(vectors)
    for name, x in vectors.items():
        same("safetensors", st[name], x)
    with safetensors.safe_open(dir / "t.safetensors", "np") as f:
        assert all(f.metadata()[f"permafrost.fingerprint.{e}"] == fp for e, fp in prints.items()), f.metadata()

    # The distinct objects of an encoder.
    for e, (want_ids, x) in objects.items():
        export("npy", f"{e}.npy", "--encoder", e)
        same("objects in NumPy", np.load(dir / f"{e}.npy"), x)
        export("safetensors", f"{e}.safetensors", "--encoder", e)
        same("objects in safetensors", safetensors.numpy.load_file(dir / f"{e}.safetensors")[e], x)
        export("parquet", f"{e}.parquet", "--encoder", e, "--batch-rows", "100")
        o = pq.read_table(dir / f"{e}.parquet")
        assert o["id"].to_pylist() == want_ids
        same("objects in Parquet", o["embedding"].combine_chunks().flatten().to_numpy().reshape(len(o), -1), x)

    # A folder for Hugging Face datasets, of both splits.
    doc = export("hf", "hf")
    assert doc["rows"] == sum(counts.values()), doc
    ds = datasets.load_dataset(str(dir / "hf"), cache_dir=str(dir / "hf-cache"))
    assert {s: len(ds[s]) for s in ds} == counts, ds
    columns("datasets", lambda name: list(ds["train"][name]), hexadecimal=True)
    ds.set_format("numpy")
    for name, x in vectors.items():
        same("datasets", np.stack(list(ds["train"][name])), x)


if __name__ == "__main__":
    main()
