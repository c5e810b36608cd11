"""The compared retrievers: each ranks the items outside the history of every tested user."""

import json
import os
import subprocess
import sys
import threading
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
from models.retrieval.training.sequence_shards import ITEMS, KEY, shard_schema

# With these instead of SASRec's defaults (256 factors, batches of 128) it trains in minutes on two
# cores. With its learning rate of 0.001 it stays at popularity for many epochs of the second set.
RECTOOLS_DEFAULTS = {"n_factors": 64, "batch_size": 32, "epochs": 100, "patience": 5}
RECTOOLS: dict[str, dict[str, Any]] = {
    "movietweetings-100k": {**RECTOOLS_DEFAULTS, "session_max_len": 50, "lr": 0.001},
    "ml-latest-small": {**RECTOOLS_DEFAULTS, "session_max_len": 100, "lr": 0.004, "patience": 10},
}
_SCRIPT = Path(__file__).with_name("rectools_sasrec.py")
# PyTorch otherwise spends a third of its time on pages that it frees and allocates again.
_MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
_ROWS = 512  # users scored at once
_OURS = threading.Lock()  # one training at a time in this process

Answers = NDArray[np.int32]  # [tested users, TOP] items, best first, -1 pads
Ranker = Callable[[Split, Catalogue, int, Path], Answers]  # of a seed and a temporary folder


def by_popularity(split: Split, catalogue: Catalogue, seed: int, scratch: Path) -> Answers:
    """Rank by the number of interactions in the training sequences."""
    counts = np.bincount(np.concatenate(split.sequences), minlength=len(catalogue.item_ids))
    return best(np.tile(counts.astype(np.float32), (len(split.tested), 1)), split.histories)


def by_ours(settings: dict[str, Any]) -> Ranker:
    """Rank by the retriever, trained like train_retrieval does."""

    def rank(split: Split, catalogue: Catalogue, seed: int, scratch: Path) -> Answers:
        from models.retrieval.retriever import tf
        from models.retrieval.training.training_loop import encode, train_retriever

        config = RetrieverConfig(seed=seed, validation_users=len(split.sequences), **settings)
        shard = str(scratch / "shard.parquet")
        rows = {KEY: np.arange(len(split.sequences)), ITEMS: list(map(list, split.sequences))}
        pq.write_table(pa.table(rows, schema=shard_schema(catalogue.vocabulary)), shard)
        with _OURS:
            trained, epochs = train_retriever(catalogue, [shard], config, scratch, _say_epoch)
        say(f"ours: seed {seed}, {len(epochs)} epochs")
        vectors = trained.items(tf.range(len(catalogue.item_ids)))
        answers = []
        for start in range(0, len(split.tested), _ROWS):
            histories = split.histories[start : start + _ROWS]
            queries = encode(trained, histories)
            answers.append(best(tf.matmul(queries, vectors, transpose_b=True).numpy(), histories))
        return np.concatenate(answers)

    return rank


def _say_epoch(epoch: dict[str, Any]) -> None:
    say(f"ours: epoch {epoch['epoch']}, loss {epoch['loss']:.3f}, NDCG@10 {epoch['NDCG@10']:.4f}")


def by_rectools(python: Path, settings: dict[str, Any]) -> Ranker:
    """Rank by RecTools' SASRec, in a process of RecTools' environment."""
    environment = os.environ | {"GLIBC_TUNABLES": _MALLOC, "OMP_NUM_THREADS": "1"}

    def rank(split: Split, catalogue: Catalogue, seed: int, scratch: Path) -> Answers:
        lengths = np.array([len(sequence) for sequence in split.sequences])
        users = np.repeat(np.arange(len(lengths)), lengths)
        places = np.concatenate([np.arange(length) for length in lengths])
        items = np.concatenate(split.sequences)
        table = {
            "user": users,
            "item": items,
            "place": places,
            "cluster": catalogue.clusters[items],
            "held_out": places == lengths[users] - 1,
        }
        read, written = scratch / "split.parquet", scratch / "answers.parquet"
        pq.write_table(pa.table(table), read)
        seeded = f"--settings={json.dumps(settings | {'seed': seed})}"
        command: list[str | Path] = [python, _SCRIPT, read, written, seeded]
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
        found = pq.read_table(written)
        say(f"RecTools: seed {seed}, {found.schema.metadata}")
        row_of = np.full(len(lengths), -1)
        row_of[split.tested] = np.arange(len(split.tested))
        row, rank = row_of[found["user_id"].to_numpy()], found["rank"].to_numpy() - 1
        answers = np.full((len(split.tested), TOP), -1, np.int32)
        answers[row[row >= 0], rank[row >= 0]] = found["item_id"].to_numpy()[row >= 0]
        return answers

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
