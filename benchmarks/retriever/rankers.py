"""The compared retrievers: each ranks the items outside the history of every tested user."""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.common.output import say
from benchmarks.retriever.split import Split
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.ranking_metrics import TOP
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.training.sequence_shards import (
    ITEMS,
    KEY,
    TIMES,
    row_groups,
    shard_schema,
)

# With these instead of SASRec's defaults (256 factors, batches of 128) it trains in minutes on two
# cores. With its learning rate of 0.001 it stays at popularity for many epochs of the second set.
RECTOOLS_DEFAULTS = {"n_factors": 64, "batch_size": 32, "epochs": 100, "patience": 5}
RECTOOLS: dict[str, dict[str, Any]] = {
    "movietweetings-100k": {**RECTOOLS_DEFAULTS, "session_max_len": 50, "lr": 0.001},
    "ml-latest-small": {**RECTOOLS_DEFAULTS, "session_max_len": 100, "lr": 0.004, "patience": 10},
}
_SCRIPT = Path(__file__).with_name("rectools_model.py")
# PyTorch otherwise spends a third of its time on pages that it frees and allocates again.
_MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
_ROWS = 512  # users scored at once
_OURS = threading.Lock()  # one training at a time in this process

Answers = NDArray[np.int32]  # [tested users, TOP] items, best first, -1 pads
Ranked = tuple[Answers, float]  # and the seconds of training until the best epoch
Ranker = Callable[[Split, Catalogue, int, Path], Ranked]  # of a seed and a temporary folder


def add_rectools_flag(parser: argparse.ArgumentParser) -> None:
    """Add --rectools_python."""
    parser.add_argument(
        "--rectools_python",
        type=Path,
        default=Path(".venv/rectools/bin/python"),
        help="interpreter of the environment that has RecTools",
    )


def by_popularity(split: Split, catalogue: Catalogue, seed: int, scratch: Path) -> Ranked:
    """Rank by the number of interactions in the training sequences."""
    counts = np.bincount(np.concatenate(split.sequences), minlength=len(catalogue.item_ids))
    return best(np.tile(counts.astype(np.float32), (len(split.tested), 1)), split.histories), 0.0


def by_recent_popularity(split: Split, catalogue: Catalogue, seed: int, scratch: Path) -> Ranked:
    """Rank by the number of interactions in the seven days before the question."""
    items, times = np.concatenate(split.sequences), np.concatenate(split.times)
    order = np.argsort(times, kind="stable")
    items, times = items[order], times[order]
    answers = []
    for history, now in zip(split.histories, split.asked_at, strict=True):
        recent = slice(*np.searchsorted(times, [now - 7 * 86_400_000_000, now]))
        counts = np.bincount(items[recent], minlength=len(catalogue.item_ids))
        answers.append(best(counts[None].astype(np.float32), [history]))
    return np.concatenate(answers), 0.0


def by_ours(settings: dict[str, Any]) -> Ranker:
    """Rank by the retriever, trained like train_retrieval does."""

    def rank(split: Split, catalogue: Catalogue, seed: int, scratch: Path) -> Ranked:
        with _OURS:
            ours = Ours(split, catalogue, seed, scratch, settings)
            return ours.answers(), ours.seconds_to_best

    return rank


class Ours:
    """The retriever, trained on a split like train_retrieval does."""

    def __init__(
        self, split: Split, catalogue: Catalogue, seed: int, scratch: Path, settings: dict[str, Any]
    ) -> None:
        from models.retrieval.training import training_loop

        self.split, self.items = split, len(catalogue.item_ids)
        self.config = RetrieverConfig(seed=seed, validation_users=len(split.sequences), **settings)
        shard = str(scratch / "shard.parquet")
        rows = {
            KEY: np.arange(len(split.sequences)),
            ITEMS: list(map(list, split.sequences)),
            TIMES: list(map(list, split.times)),
        }
        pq.write_table(pa.table(rows, schema=shard_schema(catalogue.vocabulary)), shard)
        self.groups = row_groups([shard], catalogue.vocabulary)
        self.began = time.monotonic()
        self.seconds: list[float] = []  # until the end of each epoch
        self.model, self.history = training_loop.train_retriever(
            catalogue, [shard], self.config, scratch, training_loop.Callbacks(self._on_epoch)
        )

    def _on_epoch(self, epoch: dict[str, Any]) -> None:
        self.seconds.append(time.monotonic() - self.began)
        figures = (f"{name} {epoch[name]:.4f}" for name in ("loss", f"NDCG@{TOP}"))
        say(f"ours: seed {self.config.seed}, epoch {epoch['epoch']}, {', '.join(figures)}")

    @property
    def seconds_to_best(self) -> float:
        """Return the seconds of training until the best epoch was validated."""
        return self.seconds[int(np.argmax([row[f"NDCG@{TOP}"] for row in self.history]))]

    def answers(self) -> Answers:
        """Rank by the popularity of the moment when each user asks."""
        from models.retrieval.training.training_loop import encode, tf
        from models.retrieval.training.training_sequences import popularity, survey

        past = popularity(self.groups, self.items, survey(self.groups, self.items, 0))
        snapshots = past.snapshot_at(self.split.asked_at)
        answers = []
        for start in range(0, len(self.split.tested), _ROWS):
            part = slice(start, start + _ROWS)
            histories = self.split.histories[part]
            queries = encode(self.model, histories)
            scores = self.model.scores(queries, snapshots[part], tf.range(self.items), None)
            answers.append(best(scores.numpy(), histories))
        return np.concatenate(answers)


def by_rectools(python: Path, settings: dict[str, Any]) -> Ranker:
    """Rank by a model of RecTools, in a process of RecTools' environment."""
    environment = os.environ | {"GLIBC_TUNABLES": _MALLOC, "OMP_NUM_THREADS": "1"}

    def rank(split: Split, catalogue: Catalogue, seed: int, scratch: Path) -> Ranked:
        lengths = np.array([len(sequence) for sequence in split.sequences])
        users = np.repeat(np.arange(len(lengths)), lengths)
        places = np.concatenate([np.arange(length) for length in lengths])
        asked_at = np.array([of_user[-1] for of_user in split.times])
        asked_at[split.tested] = split.asked_at
        items = np.concatenate(split.sequences)
        table = {
            "user": users,
            "item": items,
            "time": np.concatenate(split.times),
            "asked_at": asked_at[users],
            "cluster": catalogue.clusters[items],
            "held_out": places == lengths[users] - 1,
        }
        read, written = scratch / "split.parquet", scratch / "answers.parquet"
        pq.write_table(pa.table(table), read)
        seeded = f"--settings={json.dumps(settings | {'seed': seed})}"
        command: list[str | Path] = [python, _SCRIPT, read, written, seeded]
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
        found = pq.read_table(written)
        metadata = {key.decode(): float(value) for key, value in found.schema.metadata.items()}
        say(f"RecTools {settings['model']}: seed {seed}, {metadata}")
        row_of = np.full(len(lengths), -1)
        row_of[split.tested] = np.arange(len(split.tested))
        row, rank = row_of[found["user_id"].to_numpy()], found["rank"].to_numpy() - 1
        answers = np.full((len(split.tested), TOP), -1, np.int32)
        answers[row[row >= 0], rank[row >= 0]] = found["item_id"].to_numpy()[row >= 0]
        return answers, metadata["seconds_to_best"]

    return rank


def best(scores: NDArray[np.float32], histories: list[NDArray[np.int32]]) -> Answers:
    """Return the items with the best scores [n, items] outside each history, ties by index."""
    scores = scores.copy()
    for row, history in enumerate(histories):
        scores[row, history] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :TOP].astype(np.int32)


def rank_in(answers: Answers, targets: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the rank from 0 of each target [n] in its answers, TOP if it is not among them."""
    found = answers == targets[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), TOP)
