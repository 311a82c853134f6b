#!/usr/bin/env python3
"""Trains a linear head in PyTorch on batches that `pipeline serve` gives.

    pipeline serve cache_dir &
    python flight_head.py grpc://127.0.0.1:8815 --split train --encoder content
    torchrun --nproc-per-node 2 flight_head.py grpc://127.0.0.1:8815 --split train --encoder content

With torchrun every rank takes its share of each epoch's batches, and the head
is a DistributedDataParallel. The token is taken from PERMAFROST_TOKEN.
"""
import argparse
import json
import os
import warnings

import pyarrow.flight as flight
import torch
import torch.distributed as dist

# A batch's memory is read-only, and stays so.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("server")
parser.add_argument("--split", default="train")
parser.add_argument("--encoder", required=True)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--batch-size", type=int, default=256)
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--tls-root", help="a file with the certificate that the server's is signed by")
args = parser.parse_args()

rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
root = {"tls_root_certs": open(args.tls_root, "rb").read()} if args.tls_root else {}
client = flight.FlightClient(args.server, **root)
token = os.environ.get("PERMAFROST_TOKEN")
options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + token.encode())] if token else [])


def tensor(column):
    """Shares the memory of a column of embeddings that came in a batch."""
    return torch.from_numpy(column.flatten().to_numpy(zero_copy_only=True)).view(len(column), -1)


def read(**ticket):
    ticket = {"split": args.split, "batch_size": args.batch_size, **ticket}
    return client.do_get(flight.Ticket(json.dumps(ticket)), options)


def ticket_of(epoch):
    return {"epoch": epoch, "shuffle": True, "seed": args.seed, "drop_last": True,
            "world_size": world, "rank": rank, "columns": ["label", args.encoder]}


def info(**ticket):
    command = json.dumps({"split": args.split, "batch_size": args.batch_size, **ticket})
    return client.get_flight_info(flight.FlightDescriptor.for_command(command), options)


# What all ranks must agree on: the classes, and how many batches each takes.
labels = read(columns=["label"], batch_size=4096).read_all()["label"]
classes = {label: i for i, label in enumerate(sorted(set(labels.to_pylist())))}
plan = info(**ticket_of(0))
dim = plan.schema.field(args.encoder).type.list_size
turns = json.loads(plan.app_metadata)["batches"] // world
if turns == 0:
    raise SystemExit("the split has fewer batches than there are ranks")

torch.manual_seed(args.seed)
head = torch.nn.Linear(dim, len(classes))
if world > 1:
    dist.init_process_group("gloo")
    head = torch.nn.parallel.DistributedDataParallel(head)
optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
for epoch in range(args.epochs):
    seen, right = 0, 0
    reader = read(**ticket_of(epoch))
    for _ in range(turns):  # ranks take equally many, or they would wait for each other
        batch = reader.read_chunk().data
        x = tensor(batch[args.encoder])
        y = torch.tensor([classes[label] for label in batch["label"].to_pylist()])
        scores = head(x)
        loss = torch.nn.functional.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(y)
        right += int((scores.argmax(1) == y).sum())
    reader.cancel()
    counts = torch.tensor([seen, right])
    if world > 1:
        dist.all_reduce(counts)
    if rank == 0:
        print(f"epoch {epoch}: {counts[0]} rows, accuracy {counts[1] / counts[0]:.4f}", flush=True)
if world > 1:
    dist.destroy_process_group()
client.close()
