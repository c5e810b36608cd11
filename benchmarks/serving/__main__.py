"""Measures the SavedModel: milliseconds per call, users per second, size, and the time to load it.

An untrained retriever of the default architecture and a full novelty table are exported, loaded in
a new process with plain TensorFlow on two cores, and called with histories of 1 to 100 items. The
baseline is the same `explore` with TFRS's BruteForce over all items and a mask, in place of the
search within clusters.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common.masked_brute_force import MaskedBruteForce
from benchmarks.common.output import command_line, print_table, say
from benchmarks.common.synthetic_model import (
    random_novelty_table,
    serving_module,
    untrained_retriever,
)
from benchmarks.serving.calls import random_histories, time_calls
from models.interests.novelty_table import NoveltyTable
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.retriever import RetrieverModel, tf
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.serving.serving_module import ServingModule, export_saved_model
from pipelines.launch.flag_types import whole_number

K = 20
FEATURES = 64
BATCHES = (1, 8, 64, 256, 1024)
MASKED_BATCHES = (1, 64)  # brute force keeps the scores of all items for each user of a batch


def synthetic_catalogue(items: int, clusters: int) -> Catalogue:
    """Return items with random clusters and features."""
    rng = np.random.default_rng(0)
    ids = np.char.add("item-", np.arange(items).astype(str))
    cluster_ids = rng.integers(0, clusters, items).astype(np.int32)
    features = rng.standard_normal((items, FEATURES), np.float32)
    return Catalogue(ids, cluster_ids, np.ones(items, bool), features)


def masked_module(
    model: RetrieverModel, catalogue: Catalogue, table: NoveltyTable
) -> ServingModule:
    """Return the baseline, which excludes no item: `explore` asks for clusters without history."""
    masked = MaskedBruteForce(tf.constant(catalogue.clusters), K).index(
        model.items(tf.range(len(catalogue.item_ids))), tf.constant(catalogue.item_ids.tolist())
    )
    module = serving_module(model, catalogue, table, K)
    module.search = masked.search
    return module


def compare(folder: Path, items: int, clusters: int) -> dict[str, float]:
    """Export, measure, print the table and return the figures of the last line."""
    say(f"exporting the SavedModel of {items:,} items")
    catalogue = synthetic_catalogue(items, clusters)
    model = untrained_retriever(catalogue, RetrieverConfig())
    table = random_novelty_table(clusters)
    export_saved_model(serving_module(model, catalogue, table, K), folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
    say("loading it in a new process")
    arguments = [str(folder), *map(str, (items, clusters, *BATCHES))]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.calls", *arguments],
        env={name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    served = json.loads(done.stdout.splitlines()[-1])
    say("measuring brute force")
    masked = masked_module(model, catalogue, table)
    brute_force = {
        str(batch): time_calls(
            lambda rows: masked.explore(tf.constant(rows))["item_ids"].numpy(), batch, items
        )
        for batch in MASKED_BATCHES
    }
    figures = served["figures"]
    rows = []
    for name, by_batch in (figures | {"explore, brute force": brute_force}).items():
        for batch, row in by_batch.items():
            times = [f"{row[key]:.2f}" for key in ("p50_ms", "p99_ms")]
            rows.append([name, batch, *times, f"{row['users_per_s']:,.0f}"])
    print_table(["", "batch", "p50 ms", "p99 ms", "users/s"], rows)
    print(f"{size:,.0f} MiB on disk; loaded in {served['load_s']:.1f} s; {served['gib']:.2f} GiB")
    one = figures["explore"]["1"]
    return {
        "p50_ms": one["p50_ms"],
        "p99_ms": one["p99_ms"],
        "users_per_s": figures["explore"][str(BATCHES[-1])]["users_per_s"],
        "sampled_p50_ms": figures["explore_sampled"]["1"]["p50_ms"],
        "pooled_p50_ms": figures["explore_pooled"]["1"]["p50_ms"],
        "aligned_p50_ms": figures["explore_aligned"]["1"]["p50_ms"],
        "size_mib": size,
        "load_s": served["load_s"],
        "peak_gib": served["gib"],
        "vs_brute_force": brute_force["1"]["p50_ms"] / one["p50_ms"],
        "identical": identical(folder, masked, items),
    }


def identical(folder: Path, masked: ServingModule, items: int) -> bool:
    """Return whether both recommend the same items for some histories."""
    rows = tf.constant(random_histories(64, items, 0))
    ours = tf.saved_model.load(str(folder)).signatures["explore"](history=rows)
    return np.array_equal(ours["item_ids"], masked.explore(rows)["item_ids"])


def main() -> None:
    """Run from a command line."""
    parser = command_line("serving", __doc__)
    parser.add_argument("--items", type=whole_number(1000), default=1_000_000, help="to search in")
    parser.add_argument("--clusters", type=whole_number(3), default=761, help="of the items")
    flags = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # TensorFlow: a thread per core
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(Path(folder), flags.items, flags.clusters)))


if __name__ == "__main__":
    main()
