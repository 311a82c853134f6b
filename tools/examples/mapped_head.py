#!/usr/bin/env python3
"""Trains a linear head in PyTorch on the files of a cache, mapped into memory:
tensors lie where the file's pages do, and nothing is copied but the rows of a
batch.

    python mapped_head.py cache_dir --split train --encoder content
    torchrun --nproc-per-node 2 mapped_head.py cache_dir --split train --encoder content

Needs a cache of plain float32 (storage without compression, the default).
Checksums are not looked at here: `pipeline verify cache_dir` does.
"""
import argparse
import bisect
import json
import os
import pathlib
import warnings

import pyarrow as pa
import torch
import torch.distributed as dist

# The files are mapped read-only, and stay so.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("cache", type=pathlib.Path)
parser.add_argument("--split", default="train")
parser.add_argument("--encoder", required=True)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--batch-size", type=int, default=256)
parser.add_argument("--seed", type=int, default=42)
args = parser.parse_args()
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

manifest = json.loads(max((args.cache / "manifests").glob("*.json")).read_text())
split = [s for s in manifest["splits"] if s["name"] == args.split][-1]  # the newest
used = next(e for e in split["encoders"] if e["name"] == args.encoder)
encoder = next(e for e in manifest["encoders"] if e["folder"] == used["folder"])


def batches(files):
    for f in files:
        with pa.memory_map(str(args.cache / f["file"])) as source:
            reader = pa.ipc.open_file(source)
            for i in range(reader.num_record_batches):
                yield f["file"], reader.get_batch(i)


def mapped(address, file):
    """Says whether an address lies in the mapping of a file."""
    for line in open("/proc/self/maps"):
        span, *_, path = line.split(maxsplit=5)
        first, last = (int(x, 16) for x in span.split("-"))
        if first <= address < last:
            return path.strip().endswith(file)
    return False


allocated = pa.total_allocated_bytes()
chunks, firsts, rows = [], [], 0  # tensors by record batch, and the position of each one's first row
for file, batch in batches(encoder["shards"]):
    values = batch["embedding"].flatten()
    array = values.to_numpy(zero_copy_only=True)
    x = torch.from_numpy(array).view(len(batch), encoder["dim"])
    address = values.buffers()[1].address + 4 * values.offset
    assert address == array.__array_interface__["data"][0] == x.data_ptr(), "a copy was made"
    if pathlib.Path("/proc/self/maps").exists():
        assert mapped(address, file), "the memory is not the file's"
    chunks.append(x)
    firsts.append(rows)
    rows += len(batch)
assert pa.total_allocated_bytes() == allocated, "Arrow has copied something"
if rank == 0:
    print(f"{rows} embeddings of {encoder['dim']} values in {len(chunks)} record batches, at the addresses of the mapped files: 0 bytes copied", flush=True)

table = pa.Table.from_batches([b for _, b in batches(split["files"])])
positions = torch.from_numpy(table[f"{args.encoder}_pos"].to_numpy())
labels = table["label"].to_pylist()
classes = {label: i for i, label in enumerate(sorted(set(labels)))}
targets = torch.tensor([classes[label] for label in labels])


def gather(wanted):
    """Copies the embeddings at some positions into one batch."""
    out = torch.empty(len(wanted), encoder["dim"])
    chunk = torch.tensor([bisect.bisect_right(firsts, p) - 1 for p in wanted.tolist()])
    for i in chunk.unique().tolist():
        mine = chunk == i
        out[mine] = chunks[i][wanted[mine] - firsts[i]]
    return out


torch.manual_seed(args.seed)
head = torch.nn.Linear(encoder["dim"], len(classes))
if world > 1:
    dist.init_process_group("gloo")
    head = torch.nn.parallel.DistributedDataParallel(head)
optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
turns = len(targets) // args.batch_size // world
if turns == 0:
    raise SystemExit("the split has fewer batches than there are ranks")
for epoch in range(args.epochs):
    # All ranks know the whole order, and take every world-th batch of it.
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(args.seed * 1_000_003 + epoch))
    seen, right = 0, 0
    for turn in range(turns):
        first = (turn * world + rank) * args.batch_size
        chosen = order[first:first + args.batch_size]
        y = targets[chosen]
        scores = head(gather(positions[chosen]))
        loss = torch.nn.functional.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(y)
        right += int((scores.argmax(1) == y).sum())
    counts = torch.tensor([seen, right])
    if world > 1:
        dist.all_reduce(counts)
    if rank == 0:
        print(f"epoch {epoch}: {counts[0]} rows, accuracy {counts[1] / counts[0]:.4f}", flush=True)
if world > 1:
    dist.destroy_process_group()
