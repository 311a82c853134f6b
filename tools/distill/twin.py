"""Another implementation of encode/static, in numpy, equal bit for bit.

usage: python twin.py ARTEFACT GOLDEN.json

checks the golden vectors of encode/static/testdata against it.
"""

import base64
import json
import pathlib
import struct
import sys
import zlib

import numpy as np

import minilm


class Static:
    def __init__(self, path: str) -> None:
        data = pathlib.Path(path).read_bytes()
        rows, self.dim, words = struct.unpack("<3I", data[8:20])
        end = 20 + rows * self.dim
        self.rows = np.frombuffer(data[20:end], np.uint8).reshape(rows, self.dim).astype(np.int64) - 128
        self.scales = np.frombuffer(data[end : end + 2 * rows], "<u2").astype(np.int64)
        vocab = zlib.decompress(data[end + 2 * rows :], -15).decode().split("\n")[:-1]
        self.index = {t: i for i, t in enumerate(vocab)}
        self.tok = minilm.tokenizer()

    def encode(self, texts: list[str]) -> np.ndarray:
        out = np.empty((len(texts), self.dim), np.float32)
        for i, e in enumerate(self.tok.encode_batch(texts)):
            at = [self.index[t] for t in e.tokens]
            v = (self.rows[at] * self.scales[at, None]).sum(0).astype(np.float64)
            squares = np.cumsum(v * v)[-1]  # one after the other
            out[i] = v * (1 / np.sqrt(squares)) if squares else 1 / 16
        return out


def main(artefact: str, golden: str) -> None:
    static = Static(artefact)
    vectors = json.loads(pathlib.Path(golden).read_text())["vectors"]
    for v in vectors:
        text = base64.b64decode(v["text"]).decode("utf-8", "replace")
        if static.encode([text])[0].astype("<f4").tobytes() != base64.b64decode(v["vector"]):
            raise SystemExit(f"{text!r} has another golden vector")
    print(len(vectors), "golden vectors are equal")


if __name__ == "__main__":
    main(*sys.argv[1:])
