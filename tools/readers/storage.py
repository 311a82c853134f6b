#!/usr/bin/env python3
"""Fills caches in every dtype and compression with the command given first,
and reads their shards in pyarrow, Polars and DuckDB as cachesink/doc.go says:
every value must be what that makes of the float32 cache, bit for bit. Prints
what each reader does; only DuckDB may refuse anything, and float16 alone."""
import json
import pathlib
import subprocess
import sys
import tempfile

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc

CONFIG = """
version: 1
dataset:
  splits: {train: {csv: train.csv}}
  group: {object: text, label: label}
encoders: {content: {type: static, input: text}}
cache: {save_dir: cache, shard_objects: 300, record_batch_rows: 128}
"""


def decode(values, scale):
    """Values in rows and, for int8, the scale of each row -> float32."""
    x = np.asarray(values)
    return x.astype(np.float32) if scale is None else x.astype(np.float32) * np.asarray(scale, np.float32)[:, None]


def with_pyarrow(files):
    t = pa.concat_tables([ipc.open_file(pa.memory_map(str(f))).read_all() for f in files])
    t.validate(full=True)
    values = t["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(t), -1)
    return t["id"].to_pylist(), decode(values, t["scale"].to_numpy() if "scale" in t.column_names else None)


def with_polars(files):
    t = pl.concat([pl.read_ipc(f) for f in files])
    return t["id"].to_list(), decode(t["embedding"].to_numpy(), t["scale"].to_numpy() if "scale" in t.columns else None)


def with_polars_scan(files):
    t = pl.scan_ipc(files).collect()
    return t["id"].to_list(), decode(t["embedding"].to_numpy(), t["scale"].to_numpy() if "scale" in t.columns else None)


def with_duckdb(files):
    t = pa.concat_tables([ipc.open_file(str(f)).read_all() for f in files])
    if "scale" not in t.column_names:
        rows = duckdb.sql("SELECT id, embedding FROM t").fetchall()
    else:
        rows = duckdb.sql("SELECT id, list_transform(embedding::TINYINT[], lambda q: q::FLOAT * scale) FROM t").fetchall()
    return [bytes(r[0]) for r in rows], np.array([r[1] for r in rows], np.float32)


READERS = {"pyarrow": with_pyarrow, "Polars read_ipc": with_polars, "Polars scan_ipc": with_polars_scan, "DuckDB over pyarrow": with_duckdb}


def expected(x, dtype):
    if dtype == "float16":
        return x.astype(np.float16).astype(np.float32)
    if dtype == "int8":
        scale = np.abs(x).max(axis=1) / np.float32(127)
        return np.rint(x / scale[:, None]).astype(np.int8).astype(np.float32) * scale[:, None]
    return x


def main() -> None:
    pipeline = pathlib.Path(sys.argv[1]).resolve()
    print(f"pyarrow {pa.__version__}, Polars {pl.__version__}, DuckDB {duckdb.__version__}, numpy {np.__version__}")
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        dir = pathlib.Path(tmp)
        (dir / "c.yaml").write_text(CONFIG)
        words = "how do I reset my card balance transfer fee limit abroad quickly".split()
        (dir / "train.csv").write_text("text,label\n" + "".join(
            " ".join(words[(i * k + k) % len(words)] for k in range(1, 7)) + f" {i},{i % 3}\n" for i in range(1000)))
        want = None
        for dtype in ("float32", "float16", "int8"):
            for codec in ("none", "lz4", "zstd"):
                cache = dir / f"{dtype}-{codec}"
                subprocess.run([pipeline, "fill", "c.yaml", "--progress", "none", "--set", f"cache.save_dir={cache.name}",
                                "--set", f"cache.dtype={dtype}", "--set", f"cache.compression={codec}"],
                               cwd=dir, check=True, stdout=subprocess.DEVNULL)
                shards = json.loads((cache / "MANIFEST.json").read_text())["encoders"][0]["shards"]
                assert len(shards) == 4, shards
                files = [cache / s["file"] for s in shards]
                for name, read in READERS.items():
                    try:
                        ids, x = read(files)
                        if want is None:
                            want = dict(zip(ids, x))
                        right = expected(np.array([want[i] for i in ids]), dtype)
                        ok = len(ids) == 1000 and x.dtype == np.float32 and np.array_equal(x.view(np.uint32), right.view(np.uint32))
                        said = "the same bits" if ok else "OTHER VALUES"
                    except Exception as e:
                        ok = name.startswith("DuckDB") and dtype == "float16"
                        said = f"{'refuses' if ok else 'FAILS'}: {str(e).splitlines()[0]}"
                    bad += not ok
                    print(f"{dtype:8} {codec:5} {name:20} {said}")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
