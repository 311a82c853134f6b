"""Quaterion's own training from its full cache, for bench/train/run: the same
rows, batch size and head. Its frozen encoder looks the embeddings up, so that
the fill costs nothing. Prints the median of the seconds of some epochs.

    peer_quaterion.py FOLDER pairs|groups LEARNING_RATE EPOCHS
"""

import json
import logging
import pathlib
import statistics
import sys
import time
import warnings

warnings.filterwarnings("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

import numpy as np  # noqa: E402
import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from loguru import logger  # noqa: E402
from quaterion import Quaterion, TrainableModel  # noqa: E402
from quaterion.dataset import (  # noqa: E402
    GroupSimilarityDataLoader, PairsSimilarityDataLoader, SimilarityGroupSample, SimilarityPairSample,
)
from quaterion.loss import MultipleNegativesRankingLoss, SoftmaxLoss  # noqa: E402
from quaterion.train.cache import CacheConfig, CacheType  # noqa: E402
from quaterion_models.encoders import Encoder  # noqa: E402
from quaterion_models.heads import SkipConnectionHead  # noqa: E402

logger.remove()
folder, kind, lr, epochs = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
facts = json.loads((folder / "facts.json").read_text())
rows, dim = facts["rows"], facts["dim"]
table = np.concatenate([np.fromfile(folder / name, np.float32).reshape(-1, dim) for name in ("a", "b")])
labels = {name: i for i, name in enumerate(sorted(set(facts["labels"])))}


class Lookup(Encoder):
    @property
    def trainable(self):
        return False

    @property
    def embedding_size(self):
        return dim

    def get_collate_fn(self):
        return lambda batch: batch

    def forward(self, batch):
        return torch.from_numpy(table[batch])

    def save(self, output_path):
        raise NotImplementedError

    @classmethod
    def load(cls, input_path):
        raise NotImplementedError


class Model(TrainableModel):
    def configure_encoders(self):
        return Lookup()

    def configure_head(self, input_embedding_size):
        return SkipConnectionHead(input_embedding_size)

    def configure_loss(self):
        if kind == "pairs":
            return MultipleNegativesRankingLoss(symmetric=True)
        return SoftmaxLoss(dim, len(labels))

    def configure_optimizers(self):
        return torch.optim.Adam([*self.model.parameters(), *self.loss.parameters()], lr=lr)

    def configure_caches(self):
        return CacheConfig(CacheType.AUTO, batch_size=256)


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return rows

    def __getitem__(self, i):
        if kind == "pairs":
            return SimilarityPairSample(obj_a=i, obj_b=rows + i)
        return SimilarityGroupSample(obj=i, group=labels[facts["labels"][i]])


class Clock(pl.Callback):
    seconds: list[float] = []

    def on_train_epoch_start(self, *_):
        self.start = time.perf_counter()

    def on_train_epoch_end(self, *_):
        self.seconds.append(time.perf_counter() - self.start)


trainer = pl.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                     enable_model_summary=False, callbacks=[Clock()], accelerator="cpu")
loader = (PairsSimilarityDataLoader if kind == "pairs" else GroupSimilarityDataLoader)(Rows(), batch_size=facts["batch"], shuffle=True)
Quaterion.fit(Model(), trainer, loader, val_dataloader=None)
print(statistics.median(Clock.seconds[1:]))
