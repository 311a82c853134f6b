#!/usr/bin/env python3
"""Runs the Python blocks of the README, each as a program of its own, in the
project's root, and holds each to printing five rows."""
import pathlib
import re
import subprocess
import sys

readme = pathlib.Path(sys.argv[1]).read_text()
blocks = re.findall(r"```python\n(.*?)```", readme, re.S)
assert len(blocks) >= 2, "the README has lost its readers"
for i, code in enumerate(blocks):
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    print(f"-- README Python block {i}\n{out.stdout}{out.stderr}", end="")
    assert out.returncode == 0, f"block {i} failed"
    lines = out.stdout.strip().splitlines()
    assert len(lines) >= 5, f"block {i} printed {len(lines)} lines"
    assert len(code.strip().splitlines()) <= 10, f"block {i} is longer than ten lines"
