#!/usr/bin/env python3
"""Joins every split of a cache directory with its embeddings in pyarrow,
Polars and DuckDB: by position and by id the vectors must be the same bits.
With --disjoint the splits train and val must share no object."""
import json
import pathlib
import sys

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc

root = pathlib.Path(sys.argv[1])
manifest = json.loads((root / "MANIFEST.json").read_text())
folders = {e["folder"]: e for e in manifest["encoders"]}


def table(files):
    parts = [ipc.open_file(pa.memory_map(str(root / f["file"]))).read_all() for f in files]
    for part, f in zip(parts, files):
        part.validate(full=True)
        assert part.num_rows == f["rows"], f
    return pa.concat_tables(parts)


checked = 0
for split in manifest["splits"]:
    rows = table(split["files"])
    assert rows["row"].to_pylist() == list(range(split["rows"]))
    for enc in split["encoders"]:
        if not enc.get("folder"):
            continue
        shards = folders[enc["folder"]]["shards"]
        vecs = table(shards)
        matrix = vecs["embedding"].combine_chunks().flatten().to_numpy().reshape(len(vecs), -1)
        ids = vecs["id"].to_pylist()
        by_polars = pl.concat([pl.read_ipc(root / f["file"]) for f in shards])
        for side in ("_a", "_b") if split["kind"] == "pair" else ("",):
            pos = rows[f"{enc['name']}{side}_pos"].to_numpy()
            assert [ids[p] for p in pos] == rows[f"{enc['name']}{side}_id"].to_pylist()
            joined = pl.from_arrow(rows.select(["row", f"{enc['name']}{side}_id"])).join(
                by_polars, left_on=f"{enc['name']}{side}_id", right_on="id", how="left", maintain_order="left")
            assert np.array_equal(joined["embedding"].to_numpy(), matrix[pos])
            got = duckdb.sql(f"SELECT r.row, v.embedding FROM rows r JOIN vecs v ON r.{enc['name']}{side}_id = v.id ORDER BY r.row")
            got = np.array([v for _, v in got.fetchall()], dtype=np.float32)
            assert np.array_equal(got, matrix[pos])
            checked += len(pos)
if "--disjoint" in sys.argv:
    ids = {}
    for split in manifest["splits"]:
        rows = table(split["files"])
        ids[split["name"]] = {i for c in rows.column_names if c.endswith("_id") for i in rows[c].to_pylist()}
    shared = ids["train"] & ids["val"]
    assert ids["val"] and not shared, f"{len(shared)} objects stand in train and in val"
print(f"{checked} vectors joined by id and by position: the same bits in pyarrow {pa.__version__}, Polars {pl.__version__}, DuckDB {duckdb.__version__}")
