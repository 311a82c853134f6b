#!/usr/bin/env python3
"""Trains twice, once with an interruption: TensorBoard must read from the
event files what metrics.jsonl has.

    read.py PIPELINE FOLDER
"""
import json
import pathlib
import signal
import subprocess
import sys
import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EPOCHS = 12


def wanted(path: pathlib.Path) -> dict[str, dict[int, float]]:
    """The numbers of metrics.jsonl by tag and step."""
    out: dict[str, dict[int, float]] = {}
    for line in path.read_text().splitlines():
        r = json.loads(line)
        if r["event"] == "step":
            values = {f"train/{k}": r[k] for k in ("loss", "lr", "grad_norm")}
        else:
            values = {"epoch/loss": r["loss"], "epoch/lr": r["lr"], "epoch/seconds": r["epoch_seconds"]}
            values |= {f"validation/{k}": v for k, v in r.get("validation", {}).items()}
        for tag, v in values.items():
            out.setdefault(tag, {})[r["step"]] = v
    return out


def check(out: pathlib.Path, files: int) -> None:
    board = out / "tensorboard"
    assert len(list(board.iterdir())) == files, list(board.iterdir())
    events = EventAccumulator(str(board), size_guidance={"scalars": 0}).Reload()
    want = wanted(out / "metrics.jsonl")
    assert sorted(events.Tags()["scalars"]) == sorted(want), (events.Tags()["scalars"], sorted(want))
    n = 0
    for tag, values in want.items():
        got = {e.step: e.value for e in events.Scalars(tag)}
        assert sorted(got) == sorted(values), (tag, sorted(got), sorted(values))
        for step, v in values.items():
            assert abs(got[step] - v) <= 1e-6 * abs(v), (tag, step, got[step], v)
            n += 1
    print(f"{out.name}: {n} values under {len(want)} tags in {files} files as in metrics.jsonl")


def main() -> None:
    pipeline, tmp = sys.argv[1], pathlib.Path(sys.argv[2])
    run = [pipeline, "run", "testdata/quickstart.yaml", "--progress", "none", "--limit", "2000",
           "--set", f"cache.save_dir={tmp}/cache", "--set", f"train.epochs={EPOCHS}", "--set", "train.log.every_steps=3",
           "--set", "train.validation={loss: true, metrics: true}", "--set", "train.checkpoints={every_steps: 7}"]
    subprocess.run([*run, "--set", f"output={tmp}/whole"], check=True, stdout=subprocess.DEVNULL)
    check(tmp / "whole", 1)
    killed = subprocess.Popen([*run, "--set", f"output={tmp}/killed"], stdout=subprocess.DEVNULL)
    log = tmp / "killed.training" / "metrics.jsonl"
    while not log.exists() or log.read_text().count('"epoch_seconds"') < 3:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it was done before"
    subprocess.run([*run, "--set", f"output={tmp}/killed"], check=True, stdout=subprocess.DEVNULL)
    check(tmp / "killed", 2)


main()
