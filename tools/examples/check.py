#!/usr/bin/env python3
"""Serves a cache to the Flight client of pyarrow and compares all that comes
with the files of the cache, bit by bit; tries tokens, TLS, limits, clients that
go away and a server that stops; then runs the examples beside this file, with
one process and with two.

usage: check.py PIPELINE TORCH-PYTHON, the command and a Python that has PyTorch
"""
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.ipc as ipc

HERE = pathlib.Path(__file__).resolve().parent
CONFIG = """
version: 1
dataset:
  splits: {train: {jsonl: train.jsonl}, val: {jsonl: val.jsonl}}
  group: {object: text, label: label}
  keep: [n]
encoders: {content: {type: static}}
cache: {save_dir: cache, shard_objects: 7000, record_batch_rows: 2560}
"""
TOPICS = {
    "food": "apple bread cheese soup pepper salad rice honey butter onion".split(),
    "weather": "rain storm sun cloud wind snow frost thunder fog heat".split(),
    "money": "bank credit loan card fee tax budget price interest account".split(),
}
ROWS = 20_001  # more than connections buffer
pipeline, torch = sys.argv[1:]
os.environ.update(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")


def rows(n, seed):
    rng = random.Random(seed)
    for i in range(n):
        label = rng.choice(sorted(TOPICS))
        yield {"text": " ".join(rng.choices(TOPICS[label], k=6)) + f" {rng.randrange(n)}", "label": label, "n": None if i % 9 == 0 else i}


def fill():
    for name, n in {"train": ROWS, "val": 10}.items():
        pathlib.Path(f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows(n, name)))
    pathlib.Path("config.yaml").write_text(CONFIG)
    subprocess.run([pipeline, "fill", "config.yaml", "-q"], check=True, stdout=subprocess.DEVNULL)


def expected(name):
    """Reads a split from the files, each row with its embedding."""
    manifest = json.loads(max(pathlib.Path("cache/manifests").glob("*.json")).read_text())
    table = lambda files: pa.concat_tables([ipc.open_file(pa.memory_map("cache/" + f["file"])).read_all() for f in files])
    split, = [s for s in manifest["splits"] if s["name"] == name]
    encoder, = manifest["encoders"]
    assert len(encoder["shards"]) > 2
    t, vectors = table(split["files"]), table(encoder["shards"])["embedding"].combine_chunks()
    vectors = vectors.cast(pa.list_(pa.float32(), vectors.type.list_size))
    t = t.append_column(pa.field("content", vectors.type, nullable=False), vectors.take(t["content_pos"].combine_chunks()))
    return t.drop_columns(["content_pos"])


@contextlib.contextmanager
def serve(*flags, scheme="grpc", token=None):
    env = {k: v for k, v in os.environ.items() if k != "PERMAFROST_TOKEN"} | ({"PERMAFROST_TOKEN": token} if token else {})
    server = subprocess.Popen([pipeline, "serve", "cache", "--listen", "127.0.0.1:0", *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
    told = []

    def stop():
        told.append(server.send_signal(signal.SIGTERM))

    try:
        address, = re.fullmatch(rf"serving ({re.escape(scheme)}://\S+)\n", server.stdout.readline()).groups()
        yield address, server.pid, stop
    finally:
        if not told:  # a second signal would kill it
            stop()
        assert server.wait(60) == 143, server.returncode
        server.stdout.close()


def get(client, options=None, **ticket):
    return client.do_get(flight.Ticket(json.dumps(ticket)), options)


def same(got, want, what):
    """Compares columns and their bits; equals() would find NaNs different."""
    assert got.schema.equals(want.schema), f"{what}: {got.schema} and {want.schema}"
    assert len(got) == len(want), f"{what}: {len(got)} rows, not {len(want)}"
    for name in want.column_names:
        a, b = got[name].combine_chunks(), want[name].combine_chunks()
        a.validate(full=True)
        if pa.types.is_fixed_size_list(a.type):
            assert a.flatten().to_numpy().tobytes() == b.flatten().to_numpy().tobytes(), f"{what}: other bits in {name}"
        else:
            assert a.equals(b), f"{what}: other values in {name}"


def batches(reader):
    out = []
    for chunk in reader:
        out.append((json.loads(chunk.app_metadata.to_pybytes())["batch"], pa.Table.from_batches([chunk.data])))
    return out


def refused(kind, text, fn):
    try:
        fn()
    except kind as e:
        assert text in str(e), e
        return
    raise SystemExit(f"no {kind.__name__} with {text!r}")


def streams(address):
    train = expected("train")
    with flight.FlightClient(address) as client:
        found = {f.descriptor.path[0]: f for f in client.list_flights()}
        assert sorted(found) == [b"train", b"val"] and found[b"train"].total_records == ROWS
        info = client.get_flight_info(flight.FlightDescriptor.for_path("train"))
        assert info.schema.equals(train.schema), f"{info.schema}\n{train.schema}"
        assert json.loads(info.app_metadata) == {"batches": 79}
        assert client.get_schema(flight.FlightDescriptor.for_path("val")).schema.equals(train.schema)
        same(client.do_get(info.endpoints[0].ticket).read_all(), train, "a path")
        same(get(client, split="val").read_all(), expected("val"), "val")
        orders = set()
        for epoch in 0, 1:
            ticket = dict(split="train", shuffle=True, seed=7, epoch=epoch, batch_size=100)
            whole = batches(get(client, **ticket))
            assert [n for n, _ in whole] == list(range(201)) and [len(b) for _, b in whole] == [100] * 200 + [1]
            got = pa.concat_tables(b for _, b in whole)
            order = got["row"].to_numpy()
            assert sorted(order) == list(range(ROWS))
            orders.add(order.tobytes())
            same(got, train.take(order), f"epoch {epoch}")
            for world in 1, 2, 3, 4:
                parts = [p for rank in range(world) for p in batches(get(client, **ticket, world_size=world, rank=rank, first_batch=5))]
                parts.sort(key=lambda p: p[0])
                assert [n for n, _ in parts] == list(range(5, 201))
                same(pa.concat_tables(b for _, b in parts), pa.concat_tables(b for _, b in whole[5:]), f"{world} ranks from batch 5")
            piped = subprocess.run([pipeline, "export", "cache", "--split", "train", "--format", "arrow", "--shuffle", "--seed", "7",
                                    "--epoch", str(epoch), "--batch-rows", "100", "-o", "-", "-q"], check=True, stdout=subprocess.PIPE).stdout
            got = [pa.Table.from_batches([b]) for b in ipc.open_stream(piped)]
            assert [len(b) for b in got] == [len(b) for _, b in whole]
            same(pa.concat_tables(got).cast(train.schema), pa.concat_tables(b for _, b in whole), "the standard output")
        assert len(orders) == 2
        assert get(client, split="train", columns=["content"]).read_all().column_names == ["content"]
        refused(pa.ArrowKeyError, "no such split", lambda: get(client, split="test").read_all())
        refused(pa.ArrowInvalid, "shufle", lambda: get(client, split="train", shufle=True).read_all())
        refused(pa.ArrowInvalid, "no rank 3 of 3", lambda: get(client, split="train", world_size=3, rank=3).read_all())
    print("streams: every column has the bits of the files, in every order and share")


def memory(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) // 1024


def going_away(address, pid):
    """Clients that leave in the middle, by the hundred."""
    descriptors = lambda: len(os.listdir(f"/proc/{pid}/fd"))
    for turn in range(300):
        with flight.FlightClient(address) as client:
            reader = get(client, split="train", batch_size=64)
            reader.read_chunk()
            if turn % 2:
                reader.cancel()
            del reader
        if turn == 100:
            before = memory(pid), descriptors()
    for _ in range(200):  # sockets close in their own time
        if descriptors() <= before[1]:
            break
        time.sleep(0.05)
    after = memory(pid), descriptors()
    assert after[0] < before[0] + 50 and after[1] <= before[1], f"{before} MiB and descriptors, {after} later"
    print(f"going away: {before[0]} MiB and {before[1]} descriptors after 100 clients, {after[0]} and {after[1]} after 300")


def access():
    with serve(token="a secret token") as (address, *_), flight.FlightClient(address) as client:
        options = lambda value: flight.FlightCallOptions(headers=[(b"authorization", value)])
        assert len(get(client, options(b"Bearer a secret token"), split="val").read_all()) == 10
        for value in b"Bearer another", b"", b"Basic a secret token":
            refused(flight.FlightUnauthenticatedError, "Bearer TOKEN", lambda: get(client, options(value), split="val").read_all())
        refused(flight.FlightUnauthenticatedError, "Bearer TOKEN", lambda: list(client.list_flights()))
    subprocess.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -keyout key.pem -out cert.pem "
                   "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1".split(), check=True, stderr=subprocess.DEVNULL)
    with serve("--tls-cert", "cert.pem", "--tls-key", "key.pem", scheme="grpc+tls") as (address, *_):
        with flight.FlightClient(address, tls_root_certs=pathlib.Path("cert.pem").read_bytes()) as client:
            assert len(get(client, split="val").read_all()) == 10
        with flight.FlightClient(address.replace("grpc+tls", "grpc+tcp")) as client:
            refused(flight.FlightUnavailableError, "", lambda: get(client, split="val").read_all())
    print("access: only with the token, only with TLS where it is on")


def limits():
    with serve("--max-streams", "1", "--max-batch-bytes", "2000000") as (address, *_), flight.FlightClient(address) as client:
        refused(pa.ArrowException, "ask for a smaller batch_size", lambda: get(client, split="train", batch_size=2000).read_all())
        held = get(client, split="train", batch_size=1000)
        held.read_chunk()
        with flight.FlightClient(address) as other:
            refused(pa.ArrowException, "1 streams are under way", lambda: get(other, split="val").read_all())
        held.cancel()
    with serve("--max-connections", "1") as (address, *_), flight.FlightClient(address) as first:
        get(first, split="val").read_all()
        with flight.FlightClient(address) as second:
            refused(flight.FlightUnavailableError, "", lambda: get(second, split="val").read_all())
    print("limits: on connections, streams and the size of a batch")


def stops():
    """A server that stops says so, and its client goes on at the next one."""
    train, done = expected("train"), []
    ticket = dict(split="train", shuffle=True, batch_size=10)
    with serve() as (address, _, stop), flight.FlightClient(address) as client:
        reader = get(client, **ticket)
        done.append(reader.read_chunk())
        stop()
        try:
            while True:
                done.append(reader.read_chunk())
        except (flight.FlightUnavailableError, StopIteration) as e:
            assert "first_batch" in str(e), e
    done = [pa.Table.from_batches([c.data]) for c in done]
    with serve() as (address, *_), flight.FlightClient(address) as client:
        rest = get(client, **ticket, first_batch=len(done)).read_all()
    got = pa.concat_tables([*done, rest])
    same(got, train.take(got["row"]), "both servers")
    assert sorted(got["row"].to_pylist()) == list(range(ROWS))
    print(f"stops: {len(done)} batches from one server, the rest from the next")


def examples(address):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path[1:]), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    for script, of in ("flight_head.py", address), ("mapped_head.py", "cache"):
        for start in [torch], [torch, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]:
            out = subprocess.run([*start, str(HERE / script), of, "--encoder", "content", "--epochs", "3", "--batch-size", "100"], env=env,
                                 check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE if len(start) > 1 else None, text=True).stdout
            print(out, end="")
            accuracy = [float(x) for x in re.findall(r"epoch \d: 20000 rows, accuracy ([\d.]+)", out)]
            assert len(accuracy) == 3 and accuracy[-1] > 0.95, out


with tempfile.TemporaryDirectory() as tmp:
    os.chdir(tmp)
    fill()
    with serve() as (address, pid, _):
        streams(address)
        going_away(address, pid)
        examples(address)
    access()
    limits()
    stops()
    os.chdir(HERE)
