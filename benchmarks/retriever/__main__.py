"""The retriever beside RecTools' sequence models and popularity: HR@10 and NDCG@10 on real data.

For each data set, users with at least five interactions, in order of time. Every model is trained
on the same sequences and ranks all items outside a user's history, without sampling (RecTools ranks
the items that it was trained on, because all others would come last). Two splits:

- leave one out: the last item of every user is the target, asked for at its time;
- temporal: the latest tenth of all interactions is held back, and the target is the first item
  after the cut that is new to the user, asked for at the cut. It is left out if fewer than 100
  users have a target.

All learned models hold back the last item of each sequence and stop by its NDCG@10. RecTools' keep
the best epoch; ours goes on with everything for a few epochs. Ours has the product's defaults,
clusters and text features, but validates on every user, like RecTools. RecTools has its defaults
and the settings of `rankers.RECTOOLS`. Mean and standard deviation are over seeds.
`seconds_to_best` is the training until the best epoch, two at a time. The last line is one JSON
object.
"""

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.common.datasets import ENCODER, FOLDER, GROCERIES, real_log, with_traffic
from benchmarks.common.output import command_line, print_table, say
from benchmarks.retriever.rankers import (
    RECTOOLS,
    RECTOOLS_DEFAULTS,
    Ranker,
    add_rectools_flag,
    by_ours,
    by_popularity,
    by_recent_popularity,
    by_rectools,
    rank_in,
)
from benchmarks.retriever.split import Split, leave_one_out, temporal
from models.clustering.cluster_tree import assign_clusters
from models.clustering.fit_cluster_tree import fit_cluster_tree
from models.clustering.text_encoder import TextEncoder
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.item_features import fit_projection, project
from models.retrieval.ranking_metrics import TOP, hit_rate, ndcg
from transforms import schemas as col
from transforms.clusters.item_embeddings import item_texts
from transforms.transitions.user_sequences import ENGAGEMENTS, user_sequences

SIZES = (6, 12, 24, 48)  # clusters per level, as in the demo; the finest are used
SHARE = 0.1  # of the interactions, after the cut of the temporal split
_PARALLEL = 2  # trainings: one of RecTools keeps one core busy
_LEAST_TESTED = 100  # users; with fewer, one user is 0.01 or more of HR@10

Figures = dict[str, float]


def build_catalogue(
    items: pa.Table, sequences: list[NDArray[np.int32]], embeddings: np.ndarray
) -> Catalogue:
    """Return the items with clusters and features that build_clusters makes of training data."""
    traffic = np.bincount(np.concatenate(sequences), minlength=items.num_rows)
    tree = fit_cluster_tree(embeddings, traffic, SIZES)
    return Catalogue(
        np.array(items[col.ITEM_ID].to_pylist(), object),
        assign_clusters(tree, embeddings)[:, -1],
        np.ones(items.num_rows, bool),
        project(fit_projection(embeddings, np.ones(len(embeddings))), embeddings),
    )


def make_splits(interactions: pa.Table, items: pa.Table) -> dict[str, Split]:
    """Split interactions both ways."""
    item_ids = items[col.ITEM_ID].cast(pa.string()).combine_chunks()
    index = pc.index_in(interactions[col.ITEM_ID].cast(pa.string()), value_set=item_ids)
    columns = {
        col.USER_ID: interactions[col.USER_ID].cast(pa.string()),
        col.TIMESTAMP: interactions[col.TIMESTAMP],
        col.ITEM: index,
    }
    table = pa.table(columns).drop_null().cast(ENGAGEMENTS)
    by_user = user_sequences(table, item_ids, seed=0)
    lengths = pc.list_value_length(by_user[col.ITEMS_OF_USER]).to_numpy()
    ends = np.cumsum(lengths)[:-1]
    sequences = np.split(pc.list_flatten(by_user[col.ITEMS_OF_USER]).to_numpy(), ends)
    times = np.split(pc.list_flatten(by_user[col.TIMESTAMPS]).cast(pa.int64()).to_numpy(), ends)
    return {
        "leave_one_out": leave_one_out(sequences, times),
        "temporal": temporal(sequences, times, SHARE),
    }


def measure(
    rankers: dict[str, tuple[Ranker, list[int]]], split: Split, catalogue: Catalogue
) -> dict[str, Figures]:
    """Return mean and standard deviation of each ranker's metrics over its seeds."""

    def measure_one(ranker: Ranker, seed: int) -> tuple[float, float, float]:
        with tempfile.TemporaryDirectory() as scratch:
            answers, seconds = ranker(split, catalogue, seed, Path(scratch))
        rank = rank_in(answers, split.targets)
        return hit_rate(rank), ndcg(rank), seconds

    with ThreadPoolExecutor(_PARALLEL) as pool:
        running = {
            name: [pool.submit(measure_one, ranker, seed) for seed in seeds]
            for name, (ranker, seeds) in rankers.items()
        }
    return {name: over_seeds([run.result() for run in runs]) for name, runs in running.items()}


def over_seeds(found: list[tuple[float, float, float]]) -> Figures:
    """Return mean and standard deviation of HR, NDCG and seconds."""
    names = (f"HR@{TOP}", f"NDCG@{TOP}", "seconds_to_best")
    means = dict(zip(names, np.mean(found, axis=0), strict=True))
    deviations = np.std(found, axis=0)
    return means | {f"{name}_std": spread for name, spread in zip(names, deviations, strict=True)}


def print_figures(title: str, found: dict[str, Figures]) -> None:
    """Print the table of a data set and a split."""
    metrics = (f"HR@{TOP}", f"NDCG@{TOP}")
    print(f"\n{title}")
    print_table(
        ["", *metrics],
        [
            [name, *(f"{figures[one]:.4f} +- {figures[f'{one}_std']:.4f}" for one in metrics)]
            for name, figures in found.items()
        ],
    )


def main() -> None:
    """Run from a command line."""
    parser = command_line("retriever", __doc__)
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder of the data sets")
    parser.add_argument(
        "--datasets",
        default=",".join((*RECTOOLS, GROCERIES)),
        help=f"names of folders in it, and {GROCERIES}, which a package has",
    )
    parser.add_argument("--splits", default="leave_one_out,temporal", help="splits to measure")
    parser.add_argument("--models", default="", help="names in the table; all, if not given")
    parser.add_argument("--seeds", default="0,1,2", help="seeds of the learned models")
    add_rectools_flag(parser)
    parser.add_argument(
        "--rectools", type=json.loads, default={}, help="settings of RecTools, JSON"
    )
    parser.add_argument("--ours", type=json.loads, default={}, help="settings of ours, JSON")
    flags = parser.parse_args()
    seeds = [int(seed) for seed in flags.seeds.split(",")]
    logs: dict[str, tuple[pa.Table, pa.Table]] = {}
    for name in flags.datasets.split(","):
        log = real_log(name, flags.data, Path())
        if log is None:
            parser.error(f"--data={flags.data} has no {name}: name the folder that has it")
        logs[name] = log
    encoder = TextEncoder(ENCODER)
    used: dict[str, dict[str, Any]] = {}
    results: dict[str, dict[str, dict[str, Figures]]] = {}
    for name, (interactions, rows) in logs.items():
        items = with_traffic(interactions, rows)
        used[name] = RECTOOLS.get(name, RECTOOLS_DEFAULTS) | flags.rectools
        models: dict[str, dict[str, Any]] = {
            "SASRec": {"model": "SASRec"},
            "SASRec, clusters": {"model": "SASRec", "cluster_features": True},
            "eSASRec": {"model": "eSASRec"},
            "HSTU": {"model": "HSTU"},
        }
        rankers: dict[str, tuple[Ranker, list[int]]] = {
            "popularity": (by_popularity, seeds[:1]),
            "popularity of 7 days": (by_recent_popularity, seeds[:1]),
            **{
                f"RecTools {model}": (
                    by_rectools(flags.rectools_python, used[name] | settings),
                    seeds,
                )
                for model, settings in models.items()
            },
            "ours": (by_ours(flags.ours), seeds),
        }
        chosen = flags.models.split(",") if flags.models else rankers
        rankers = {model: rankers[model] for model in chosen}
        embeddings = encoder.encode(item_texts(items))
        splits = make_splits(interactions, items)
        for kind in flags.splits.split(","):
            split = splits[kind]
            say(f"{name}, {kind}: {len(split.sequences)} users, {len(split.tested)} of them tested")
            if len(split.tested) < _LEAST_TESTED:
                say("left out: too few tested users")
                continue
            catalogue = build_catalogue(items, split.sequences, embeddings)
            found = measure(rankers, split, catalogue)
            results.setdefault(kind, {})[name] = found
            print_figures(f"{name}, {kind}, {len(split.tested)} users tested", found)
    print(json.dumps({"seeds": seeds, "ours": flags.ours, "rectools": used, **results}))


if __name__ == "__main__":
    main()
