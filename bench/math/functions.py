"""The element-wise functions, row functions and reductions of one thread
against torch: ours and torch's take turns in processes that live as long as
the measurement, on the widest vectors of the machine and on AVX2."""

import pathlib

import benchlib as b

HERE = pathlib.Path(__file__).resolve().parent
NAMES = ["exp", "tanh", "sigmoid", "erf", "gelu", "softmax", "softmax_rows", "logsumexp", "logsumexp_rows", "layernorm",
         "normalize", "sum", "max", "to_float16", "from_float16"]
TURN = 0.02  # seconds


def compare(program: pathlib.Path, rounds: int, suffix: str, ours_env: dict, torch_env: dict) -> None:
    ours = b.start([program, "-functions", TURN], **ours_env)
    torch = b.start([b.torch(), HERE / "peer_torch.py", TURN], **torch_env)
    print(f"torch {torch.stdout.readline().strip()}: nanoseconds a value, ours and torch's, median of {rounds} turns")
    times = {name: ([], []) for name in NAMES}
    for _ in range(rounds):
        for name, (mine, theirs) in times.items():
            mine.append(b.ask(ours, name))
            theirs.append(b.ask(torch, name))
    for p in (ours, torch):
        b.finish(p)
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
