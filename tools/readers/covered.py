#!/usr/bin/env python3
"""Reads a run's JSON from standard input: it must have encoded nothing."""
import json
import sys

doc = json.load(sys.stdin)
assert doc["schema_version"] == 1, doc
assert doc["fill"]["encoded"] == 0 and doc["fill"]["objects"] > 0, doc["fill"]
for name, base in doc["eval"]["baseline"].items():
    tuned = doc["eval"]["tuned"][name]
    assert tuned >= base + 0.02, f"{name}: {base} -> {tuned}"
print("second run: 0 encoded;", ", ".join(f"{n} {b:.3f} -> {doc['eval']['tuned'][n]:.3f}" for n, b in doc["eval"]["baseline"].items()))
