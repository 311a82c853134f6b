#!/usr/bin/env python3
"""Writes source/testdata/columns: one table in every format, codec and encoding.

    python3 -m venv VENV && VENV/bin/pip install -r tools/columns/requirements.txt
    VENV/bin/python tools/columns/write.py

rows.jsonl is the same table as JSON lines, in the forms that package source
gives its values; bytes are in base64 there.
"""
import base64
import datetime as dt
import decimal
import json
import pathlib
import sys

import numpy
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).resolve().parents[2] / "source/testdata/columns"
ROWS = 40
EPOCH = dt.datetime(1970, 1, 1)


def rows():
    for i in range(ROWS):
        at = dt.datetime(2024, 2, 28, 23, 59, 58) + dt.timedelta(hours=7 * i, microseconds=1000 * i)
        local = dt.datetime(1969, 12, 31, 12) + dt.timedelta(hours=i, milliseconds=500 * (i % 2))
        yield {
            "id": i - 2,
            "text": None if i % 7 == 3 else ["How do I reset it?", "Grüße, 世界", "", 'a "quoted"\nline \\ 🔥'][i % 4] + " #%d" % (i // 4),
            "label": ["billing", "hardware", "other"][i % 3],
            "score": None if i % 5 == 4 else i / 8 - 1,
            "single": i / 4,
            "half": i / 2 - 3,
            "small": i - 20,
            "big": 2**64 - 1 - i if i % 2 else i,
            "flag": None if i % 6 == 5 else i % 2 == 0,
            "raw": bytes([i, 255, 0, i]) * (i % 3),
            "fixed": bytes([i, i + 1, i + 2]),
            "at": at,
            "local": local,
            "day": None if i == 1 else dt.date(1999, 12, 31) + dt.timedelta(days=i * 31),
            "clock": dt.time(i % 24, 5, 6, 7000 * i),
            "price": None if i == 2 else decimal.Decimal(i * 125 - 250).scaleb(-2),
            "tags": None if i % 8 == 6 else [["a", None, "ü"], [], ["x"] * (i % 4)][i % 3],
            "matrix": [[j, k] for j in range(i % 3) for k in range(2)],
            "point": None if i % 9 == 8 else {"x": i, "y": None if i % 2 else i / 2},
            "attrs": None if i % 4 == 1 else {"k%d" % j: j * i for j in range(i % 3)},
            "nothing": None,
        }


SCHEMA = pa.schema([
    pa.field("id", pa.int64(), nullable=False),
    ("text", pa.string()),
    ("label", pa.dictionary(pa.int32(), pa.string())),
    ("score", pa.float64()),
    ("single", pa.float32()),
    ("half", pa.float16()),
    ("small", pa.int8()),
    ("big", pa.uint64()),
    ("flag", pa.bool_()),
    ("raw", pa.binary()),
    ("fixed", pa.binary(3)),
    ("at", pa.timestamp("us", tz="UTC")),
    ("local", pa.timestamp("ms")),
    ("day", pa.date32()),
    ("clock", pa.time64("us")),
    ("price", pa.decimal128(12, 2)),
    ("tags", pa.list_(pa.string())),
    ("matrix", pa.list_(pa.list_(pa.int16()))),
    ("point", pa.struct([("x", pa.int32()), ("y", pa.float64())])),
    ("attrs", pa.map_(pa.string(), pa.int64())),
    ("nothing", pa.string()),
])


def fraction(t, text):
    return text + (".%06d" % t.microsecond).rstrip("0") if t.microsecond else text


def twin(row):
    r = dict(row)
    r["big"] = r["big"] if r["big"] < 2**63 else float(r["big"])
    for k in "raw", "fixed":
        r[k] = base64.b64encode(r[k]).decode()
    r["at"] = fraction(r["at"], r["at"].strftime("%Y-%m-%dT%H:%M:%S")) + "Z"
    r["local"] = fraction(r["local"], r["local"].strftime("%Y-%m-%dT%H:%M:%S"))
    r["day"] = r["day"] and r["day"].isoformat()
    r["clock"] = fraction(r["clock"], r["clock"].strftime("%H:%M:%S"))
    r["price"] = None if r["price"] is None else "%.2f" % r["price"]
    return r


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    data = list(rows())
    with open(OUT / "rows.jsonl", "w", encoding="utf-8") as f:
        for r in data:
            f.write(json.dumps(twin(r), ensure_ascii=False) + "\n")

    table = pa.Table.from_pylist([{**r, "half": numpy.float16(r["half"])} for r in data], SCHEMA)

    def parquet(name, row_group_size=16, **options):
        pq.write_table(table, OUT / (name + ".parquet"), row_group_size=row_group_size, **options)

    for codec in "none", "snappy", "gzip", "zstd", "lz4":
        parquet("v1-" + codec, compression=codec)
    parquet("v2-pages", compression="zstd", data_page_version="2.0", data_page_size=64, write_batch_size=4, row_group_size=ROWS, write_page_checksum=True)
    parquet("v1-pages", compression="snappy", data_page_size=64, write_batch_size=4, row_group_size=ROWS, write_page_checksum=True, dictionary_pagesize_limit=64)
    parquet("v2-deltas", compression="none", data_page_version="2.0", use_dictionary=False, use_byte_stream_split=False, column_encoding={
        "id": "DELTA_BINARY_PACKED", "small": "DELTA_BINARY_PACKED", "big": "DELTA_BINARY_PACKED", "at": "DELTA_BINARY_PACKED",
        "text": "DELTA_BYTE_ARRAY", "label": "DELTA_LENGTH_BYTE_ARRAY", "raw": "DELTA_LENGTH_BYTE_ARRAY", "fixed": "DELTA_BYTE_ARRAY",
        "score": "BYTE_STREAM_SPLIT", "single": "BYTE_STREAM_SPLIT", "local": "BYTE_STREAM_SPLIT", "price": "BYTE_STREAM_SPLIT",
        "tags.list.element": "DELTA_BYTE_ARRAY"})
    parquet("old", compression="snappy", version="1.0", use_compliant_nested_type=False, store_schema=False)
    pq.write_table(table.slice(0, 0), OUT / "empty.parquet")
    wide = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
    large = table.cast(pa.schema([f.with_type(wide.get(f.type, f.type)) for f in SCHEMA]))
    pq.write_table(table.select(["id", "at", "local"]), OUT / "int96.parquet", use_deprecated_int96_timestamps=True)

    batches = table.to_batches(max_chunksize=16)
    for codec in None, "lz4", "zstd":
        options = ipc.IpcWriteOptions(compression=codec)
        for kind, new in ("file", ipc.new_file), ("stream", ipc.new_stream):
            with new(OUT / ("%s-%s.arrow" % (kind, codec or "none")), SCHEMA, options=options) as w:
                for b in batches:
                    w.write_batch(b)
    views = table.select(["id", "text", "raw", "tags"]).cast(pa.schema([
        pa.field("id", pa.int64(), nullable=False), ("text", pa.string_view()), ("raw", pa.binary_view()), ("tags", pa.large_list(pa.large_string()))]))
    with ipc.new_file(OUT / "views.arrow", views.schema) as w:
        for b in views.to_batches(max_chunksize=16):
            w.write_batch(b)
    with ipc.new_file(OUT / "large.arrow", large.schema) as w:
        for b in large.to_batches(max_chunksize=16):
            w.write_batch(b)
    with ipc.new_stream(OUT / "empty.arrow", SCHEMA):
        pass
    deltas = ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    labels = [r["label"] for r in data]
    with ipc.new_stream(OUT / "dictionaries.arrow", pa.schema([("id", pa.int64()), ("label", pa.dictionary(pa.int8(), pa.string()))]), options=deltas) as w:
        for at in range(0, ROWS, 16):
            seen = list(dict.fromkeys(labels[: at + 16] if at < 32 else reversed(labels)))
            ids = pa.array([r["id"] for r in data[at:at + 16]], pa.int64())
            codes = pa.array([seen.index(x) for x in labels[at:at + 16]], pa.int8())
            w.write_batch(pa.record_batch([ids, pa.DictionaryArray.from_arrays(codes, pa.array(seen))], names=["id", "label"]))
    feather.write_feather(table, OUT / "feather.feather", chunksize=16)

    frame = pl.from_arrow(table.drop_columns(["attrs", "half", "fixed"]))
    for codec in "uncompressed", "snappy", "zstd", "lz4", "gzip":
        frame.write_parquet(OUT / ("polars-%s.parquet" % codec), compression=codec, row_group_size=16)
    for codec in "uncompressed", "zstd", "lz4":
        frame.write_ipc(OUT / ("polars-%s.arrow" % codec), compression=codec)
    frame.write_ipc_stream(OUT / "polars-stream.arrow")
    print(sum(f.stat().st_size for f in OUT.iterdir()), "bytes", file=sys.stderr)


main()
