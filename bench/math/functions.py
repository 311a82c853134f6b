"""The element-wise functions, row functions and reductions of one thread
against torch: ours and torch's take turns in processes that live as long as
the measurement, on the widest vectors of the machine and on AVX2."""

import os
import pathlib
import subprocess
import sys

import benchlib as b

HERE = pathlib.Path(__file__).resolve().parent
NAMES = ["exp", "tanh", "sigmoid", "erf", "gelu", "softmax", "softmax_rows", "logsumexp", "logsumexp_rows", "layernorm",
         "normalize", "sum", "max", "to_float16", "from_float16"]
TURN = 0.02  # seconds


def start(args: list, **env: str) -> subprocess.Popen:
    return subprocess.Popen([str(a) for a in args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
                            env={**os.environ, **env})


def ask(process: subprocess.Popen, name: str) -> float:
    process.stdin.write(name + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        sys.exit(f"{process.args} ended with {process.wait()}")
    return float(answer)


def compare(program: pathlib.Path, rounds: int, suffix: str, ours_env: dict, torch_env: dict) -> None:
    ours = start([program, "-functions", TURN], **ours_env)
    torch = start([b.venv("torch", "torch==2.15.0", "numpy==2.4.6"), HERE / "peer_torch.py", TURN], **torch_env)
    print(f"torch {torch.stdout.readline().strip()}: nanoseconds a value, ours and torch's, median of {rounds} turns")
    times = {name: ([], []) for name in NAMES}
    for _ in range(rounds):
        for name, (mine, theirs) in times.items():
            mine.append(ask(ours, name))
            theirs.append(ask(torch, name))
    for p in (ours, torch):
        p.stdin.close()
        p.wait()
    medians = {name: (b.median(mine), b.median(theirs)) for name, (mine, theirs) in times.items()}
    for name, (mine, theirs) in medians.items():
        print(f"{name}{suffix} {mine * 1e4:.3f} {theirs * 1e4:.3f}")
    for name, (mine, theirs) in medians.items():
        print(f"ratio {name}{suffix}_vs_torch {theirs / mine:.2f}")


def measure(program: pathlib.Path, rounds: int) -> None:
    """Prints the ratios; the second set, named _avx2, only where there is AVX-512."""
    compare(program, rounds, "", {}, {})
    if "AVX-512" in b.machine():
        compare(program, rounds, "_avx2", {"GODEBUG": "cpu.avx512f=off"}, {"ATEN_CPU_CAPABILITY": "avx2"})
