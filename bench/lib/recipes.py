"""Quaterion's two text recipes with the embedded encoder, as configs. The data
is measurement data that is not part of the project: its folder is given by
PERMAFROST_BENCH_DATA (default: ../shared/data)."""

import json
import os
import pathlib

import benchlib as b

DATA = pathlib.Path(os.environ.get("PERMAFROST_BENCH_DATA", b.ROOT.parent / "shared/data"))

COMMON = """
encoders: {{content: {{type: static, input: text}}}}
cache: {{save_dir: {name}-cache}}
head: {{type: skip_connection}}
train: {{epochs: {epochs}, batch_size: {batch}, optimizer: {{type: adam, lr: 1e-3}}}}
"""

FAQ = """
version: 1
seed: 42
dataset:
  splits: {{train: {{jsonl: faq-train.jsonl}}, val: {{jsonl: faq-val.jsonl}}}}
  pair: {{a: question, b: answer}}
loss: {{type: multiple_negatives_ranking, scale: 20, symmetric: true}}
""" + COMMON

BANKING = """
version: 1
seed: 42
dataset:
  splits: {{train: {{csv: {data}/banking77_train.csv}}, val: {{csv: {data}/banking77_test.csv}}}}
  group: {{object: text, label: category}}
loss: {{type: softmax}}
""" + COMMON


def there() -> bool:
    """Reports whether there is data, and says so if there is none."""
    if (DATA / "cloud_faq.jsonl").exists():
        return True
    print(f"no measurement data in {DATA}: nothing measured")
    return False


def write(dir: pathlib.Path, epochs: int) -> dict[str, pathlib.Path]:
    """Writes the configs, and the splits of the FAQ, to a folder."""
    rows = (DATA / "cloud_faq.jsonl").read_text().splitlines()
    for split, at in json.loads((DATA / "cloud_faq_split.json").read_text()).items():
        (dir / f"faq-{split}.jsonl").write_text("".join(rows[i] + "\n" for i in at))
    out = {}
    for name, text, batch in (("faq", FAQ, 1024), ("banking77", BANKING, 256)):
        out[name] = dir / f"{name}.yaml"
        out[name].write_text(text.format(name=name, epochs=epochs, batch=batch, data=DATA))
    return out
