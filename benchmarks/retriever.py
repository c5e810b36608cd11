"""The retriever beside RecTools' SASRec and popularity: HR@10 and NDCG@10 on real data.

For each dataset, users with at least five interactions, in order of time; every model is trained on
all of the same sequences and ranks all items outside a user's history, none sampled (RecTools those
that it was trained on, which all others would come after). Two splits:

- leave one out: the last item of every user is the target;
- temporal: the latest tenth of all interactions is held back, and the target is the first item
  after the cut that is new to the user. It is left out where fewer than 100 users have one.

Both models learned hold the last item of each sequence back to stop by its NDCG@10, and keep their
best epoch. Ours has the product's defaults but for validating on every user, as RecTools does, and
it has what the product makes of the items' texts: clusters and features. RecTools' settings are
`RECTOOLS` over its defaults; --rectools='{"cluster_features": true}' lets it have the clusters too.
Mean and standard deviation are over seeds. Ends with one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.clusters import ENCODER, FOLDER, real_items
from benchmarks.progress import say
from benchmarks.retriever_split import Split, leave_one_out, temporal
from models.clustering.cluster_tree import assign_clusters
from models.clustering.fit_cluster_tree import fit_cluster_tree
from models.clustering.text_encoder import TextEncoder
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.item_features import fit_projection, project
from models.retrieval.ranking_metrics import TOP, hit_rate, ndcg
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.training.sequence_shards import ITEMS, KEY, shard_schema
from transforms import schemas as col
from transforms.clusters.item_embeddings import item_texts
from transforms.transitions.user_sequences import ENGAGEMENTS, user_sequences

SETS = ("movietweetings-100k", "ml-latest-small")
SIZES = (6, 12, 24, 48)  # clusters per level, as in the demo; the finest are used
SHARE = 0.1  # of the interactions, after the cut of the temporal split
# Of SASRec's defaults (256 factors, batches of 128) these make it learn in minutes on two cores.
# With its learning rate of 0.001 it stays at popularity for many epochs of the second set.
_RECTOOLS = {"n_factors": 64, "batch_size": 32, "epochs": 100, "patience": 5}
RECTOOLS: dict[str, dict[str, Any]] = {
    "movietweetings-100k": {**_RECTOOLS, "session_max_len": 50, "lr": 0.001},
    "ml-latest-small": {**_RECTOOLS, "session_max_len": 100, "lr": 0.004, "patience": 10},
}
SCRIPT = Path(__file__).with_name("retriever_rectools.py")
# PyTorch otherwise spends a third of its time on pages that it gives back and takes again.
MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
_ROWS = 512  # users scored at once
_AT_ONCE = 2  # trainings: one of RecTools keeps one core busy
_LEAST_TESTED = 100  # users; of fewer, one makes a hundredth or more of HR@10
_OURS = threading.Lock()  # one at a time: they are in this process

Answers = NDArray[np.int32]  # [tested users, TOP] items, best first, -1 pads
Model = Callable[[Split, Catalogue, int, Path], Answers]
Figures = dict[str, float]


def catalogue_of(
    items: pa.Table, sequences: list[NDArray[np.int32]], rows: np.ndarray
) -> Catalogue:
    """Items with clusters and features, as build_clusters makes them of what is trained on.

    `rows` [items, d] are the embeddings of the items' texts.
    """
    traffic = np.bincount(np.concatenate(sequences), minlength=items.num_rows)
    tree = fit_cluster_tree(rows, traffic, SIZES)
    return Catalogue(
        np.array(items[col.ITEM_ID].to_pylist(), object),
        assign_clusters(tree, rows)[:, -1],
        np.ones(items.num_rows, bool),
        project(fit_projection(rows, np.ones(len(rows))), rows),
    )


def by_popularity(split: Split, catalogue: Catalogue, seed: int, scratch: Path) -> Answers:
    """Rank by how often the sequences hold an item."""
    counts = np.bincount(np.concatenate(split.sequences), minlength=len(catalogue.item_ids))
    return best(np.tile(counts.astype(np.float32), (len(split.tested), 1)), split.histories)


def by_ours(settings: dict[str, Any]) -> Model:
    """Rank by the retriever, trained as train_retrieval does."""

    def model(split: Split, catalogue: Catalogue, seed: int, scratch: Path) -> Answers:
        from models.retrieval.retriever import tf
        from models.retrieval.training.training_loop import encode, train_retriever

        config = RetrieverConfig(seed=seed, validation_users=len(split.sequences), **settings)
        shard = str(scratch / "shard.parquet")
        rows = {KEY: np.arange(len(split.sequences)), ITEMS: list(map(list, split.sequences))}
        pq.write_table(pa.table(rows, schema=shard_schema(catalogue.vocabulary)), shard)
        with _OURS:
            trained, history = train_retriever(catalogue, [shard], config, scratch, _say_epoch)
        say(f"ours: seed {seed}, {len(history)} epochs")
        vectors = trained.items(tf.range(len(catalogue.item_ids)))
        answers = []
        for start in range(0, len(split.tested), _ROWS):
            histories = split.histories[start : start + _ROWS]
            queries = encode(trained, histories)
            answers.append(best(tf.matmul(queries, vectors, transpose_b=True).numpy(), histories))
        return np.concatenate(answers)

    return model


def _say_epoch(epoch: dict[str, Any]) -> None:
    say(f"ours: epoch {epoch['epoch']}, loss {epoch['loss']:.3f}, NDCG@10 {epoch['NDCG@10']:.4f}")


def by_rectools(python: Path, settings: dict[str, Any]) -> Model:
    """Rank by RecTools' SASRec, in a process of the environment that has it."""
    environment = os.environ | {"GLIBC_TUNABLES": MALLOC, "OMP_NUM_THREADS": "1"}

    def model(split: Split, catalogue: Catalogue, seed: int, scratch: Path) -> Answers:
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
        command: list[str | Path] = [
            python,
            SCRIPT,
            read,
            written,
            f"--settings={json.dumps(settings | {'seed': seed})}",
        ]
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
        found = pq.read_table(written)
        say(f"RecTools: seed {seed}, {found.schema.metadata}")
        row_of = np.full(len(lengths), -1)
        row_of[split.tested] = np.arange(len(split.tested))
        row, rank = row_of[found["user_id"].to_numpy()], found["rank"].to_numpy() - 1
        answers = np.full((len(split.tested), TOP), -1, np.int32)
        answers[row[row >= 0], rank[row >= 0]] = found["item_id"].to_numpy()[row >= 0]
        return answers

    return model


def best(scores: NDArray[np.float32], histories: list[NDArray[np.int32]]) -> Answers:
    """Items with the best scores [n, items] outside each history, equal ones by index."""
    scores = scores.copy()
    for row, history in enumerate(histories):
        scores[row, history] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :TOP].astype(np.int32)


def rank_in(answers: Answers, targets: NDArray[np.int32]) -> NDArray[np.int64]:
    """Rank from 0 of each target [n] in its answers, TOP where it is not among them."""
    found = answers == targets[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), TOP)


def splits_of(interactions: pa.Table, items: pa.Table) -> dict[str, Split]:
    """Split interactions both ways."""
    index = pc.index_in(interactions[col.ITEM_ID], value_set=items[col.ITEM_ID].combine_chunks())
    columns = {
        col.USER_ID: interactions[col.USER_ID].cast(pa.string()),
        col.TIMESTAMP: interactions[col.TIMESTAMP],
        col.ITEM: index,
    }
    table = pa.table(columns).drop_null().cast(ENGAGEMENTS)
    by_user = user_sequences(table)
    lengths = pc.list_value_length(by_user[col.ITEMS_OF_USER]).to_numpy()
    ends = np.cumsum(lengths)[:-1]
    sequences = np.split(pc.list_flatten(by_user[col.ITEMS_OF_USER]).to_numpy(), ends)
    times = np.split(pc.list_flatten(by_user[col.TIMESTAMPS]).cast(pa.int64()).to_numpy(), ends)
    return {
        "leave_one_out": leave_one_out(sequences),
        "temporal": temporal(sequences, times, SHARE),
    }


def measure(
    models: dict[str, tuple[Model, list[int]]], split: Split, catalogue: Catalogue
) -> dict[str, Figures]:
    """Mean and standard deviation of each model's metrics over its seeds."""

    def measured(model: Model, seed: int) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as scratch:
            rank = rank_in(model(split, catalogue, seed, Path(scratch)), split.targets)
        return hit_rate(rank), ndcg(rank)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = {
            name: [pool.submit(measured, model, seed) for seed in seeds]
            for name, (model, seeds) in models.items()
        }
    return {name: _over_seeds([run.result() for run in runs]) for name, runs in running.items()}


def _over_seeds(found: list[tuple[float, float]]) -> Figures:
    mean, spread = np.mean(found, axis=0), np.std(found, axis=0)
    return {
        f"HR@{TOP}": mean[0],
        f"NDCG@{TOP}": mean[1],
        f"HR@{TOP}_std": spread[0],
        f"NDCG@{TOP}_std": spread[1],
    }


def main() -> int:
    """Print a table and, as the last line, the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder of the datasets")
    parser.add_argument("--datasets", default=",".join(SETS), help="names of folders in it")
    parser.add_argument("--splits", default="leave_one_out,temporal", help="of the two")
    parser.add_argument("--seeds", default="0,1,2", help="of the models learned")
    parser.add_argument(
        "--rectools_python",
        type=Path,
        default=Path(".venv/rectools/bin/python"),
        help="interpreter of the environment that has RecTools",
    )
    parser.add_argument(
        "--rectools", type=json.loads, default={}, help="its settings, JSON, over `RECTOOLS`"
    )
    parser.add_argument(
        "--ours", type=json.loads, default={}, help="settings of ours, JSON, over the defaults"
    )
    flags = parser.parse_args()
    seeds = [int(seed) for seed in flags.seeds.split(",")]
    items_of: dict[str, pa.Table] = {}
    for name in flags.datasets.split(","):
        there = real_items(name, flags.data, Path())
        if there is None:
            parser.error(f"--data={flags.data} has no {name}: name the folder that has it")
        items_of[name] = there
    encoder = TextEncoder(ENCODER)
    used: dict[str, dict[str, Any]] = {}
    results: dict[str, dict[str, dict[str, Figures]]] = {}
    for name, items in items_of.items():
        settings = RECTOOLS.get(name, _RECTOOLS) | flags.rectools
        used[name] = settings
        models = {
            "popularity": (by_popularity, seeds[:1]),
            "rectools": (by_rectools(flags.rectools_python, settings), seeds),
            "ours": (by_ours(flags.ours), seeds),
        }
        rows = encoder.encode(item_texts(items))
        interactions = pq.read_table(flags.data / name / "interactions.parquet")
        splits = splits_of(interactions, items)
        for kind in flags.splits.split(","):
            split = splits[kind]
            say(f"{name}, {kind}: {len(split.sequences)} users, {len(split.tested)} of them tested")
            if len(split.tested) < _LEAST_TESTED:
                say("left out: they are too few")
                continue
            catalogue = catalogue_of(items, split.sequences, rows)
            found = measure(models, split, catalogue)
            results.setdefault(kind, {})[name] = found
            _print_table(f"{name}, {kind}, {len(split.tested)} users tested", found)
    report = {"seeds": seeds, "ours": flags.ours, "rectools": used, **results}
    print(json.dumps(report))
    return 0


def _print_table(title: str, found: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}\n{'':12}{'HR@10':>18}{'NDCG@10':>18}")
    for model, figures in found.items():
        cells = [
            f"{figures[metric]:.4f} +- {figures[f'{metric}_std']:.4f}"
            for metric in (f"HR@{TOP}", f"NDCG@{TOP}")
        ]
        print(f"{model:12}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
