"""The SavedModel at work: milliseconds a call, users a second, size, and the time to load it.

An untrained retriever of the real architecture, a full novelty table and as many items as asked
for are exported, loaded in a fresh process with plain TensorFlow on two cores, and asked about
histories of 1 to 100 items. Beside it the same `explore` with TFRS's BruteForce over all items and
a mask in place of the search within clusters.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.progress import say
from benchmarks.serving_calls import histories, time_calls
from benchmarks.topk import MaskedBruteForce
from models.interests.novelty_table import NoveltyTable
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.retriever import RetrieverModel, tf
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.serving.serving_module import ServingModule, export_saved_model
from pipelines.launch.flag_types import whole_number

ITEMS, CLUSTERS, NOVEL, K = 1_000_000, 761, 20, 20
FEATURES = 64
BATCHES = (1, 8, 64, 256, 1024)
MASKED_BATCHES = (1, 64)  # brute force keeps the scores of all items for each user of a batch


def novelty_table(clusters: int, novel: int) -> NoveltyTable:
    """Make a full table with distinct clusters in a row."""
    rng = np.random.default_rng(0)
    first = rng.integers(clusters, size=(clusters, clusters, 1))
    after = (first + np.arange(novel)) % clusters
    chances = -np.sort(-rng.random((clusters, clusters, novel), np.float32), axis=2)
    names = [f"keyword {cluster}, another, and a third" for cluster in range(clusters)]
    return NoveltyTable(after.astype(np.int32), chances, names)


def parts(items: int, clusters: int) -> tuple[RetrieverModel, Catalogue]:
    """Make the untrained model and its items."""
    rng = np.random.default_rng(0)
    ids = np.char.add("item-", np.arange(items).astype(str))
    of = rng.integers(0, clusters, items).astype(np.int32)
    features = rng.standard_normal((items, FEATURES), np.float32)
    catalogue = Catalogue(ids, of, np.ones(items, bool), features)
    return RetrieverModel(RetrieverConfig(), catalogue, rng.integers(0, 1000, items)), catalogue


def masked_module(
    model: RetrieverModel, catalogue: Catalogue, table: NoveltyTable
) -> ServingModule:
    """Make the alternative: `explore` asks for clusters without history, so it may exclude none."""
    masked = MaskedBruteForce(tf.constant(catalogue.clusters), K).index(
        model.items(tf.range(len(catalogue.item_ids))), tf.constant(catalogue.item_ids.tolist())
    )
    module = ServingModule(model, catalogue, table, K)
    module.search = masked.search
    return module


def compare(folder: Path, items: int, clusters: int) -> dict[str, float]:
    """Export, measure, print the table and return the figures of the last line."""
    say(f"making the SavedModel of {items:,} items")
    model, catalogue = parts(items, clusters)
    table = novelty_table(clusters, min(NOVEL, clusters - 2))
    export_saved_model(model, catalogue, table, folder, K)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
    say("loading it in a fresh process")
    plain = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.serving_calls", str(folder)),
            *(str(number) for number in (items, clusters, *BATCHES)),
        ],
        env=plain,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    served = json.loads(done.stdout.splitlines()[-1])
    say("the same by brute force")
    masked = masked_module(model, catalogue, table)
    brute = {
        str(batch): time_calls(
            lambda rows: masked.explore(tf.constant(rows))["item_ids"].numpy(), batch, items
        )
        for batch in MASKED_BATCHES
    }

    print(f"{'':22}{'batch':>6}{'p50 ms':>10}{'p99 ms':>10}{'users/s':>10}")
    for name, rows in (served["figures"] | {"explore, brute force": brute}).items():
        for batch, row in rows.items():
            print(
                f"{name:22}{batch:>6}{row['p50_ms']:>10.2f}{row['p99_ms']:>10.2f}"
                f"{row['users_per_s']:>10,.0f}"
            )
    print(f"{size:,.0f} MiB on disk; loaded in {served['load_s']:.1f} s; {served['gib']:.2f} GiB")
    one, many = served["figures"]["explore"]["1"], served["figures"]["explore"][str(BATCHES[-1])]
    others = {name: served["figures"][f"explore_{name}"]["1"] for name in ("sampled", "pooled")}
    return {
        "p50_ms": one["p50_ms"],
        "p99_ms": one["p99_ms"],
        "users_per_s": many["users_per_s"],
        **{f"{name}_p50_ms": row["p50_ms"] for name, row in others.items()},
        "size_mib": size,
        "load_s": served["load_s"],
        "peak_gib": served["gib"],
        "vs_brute_force": brute["1"]["p50_ms"] / one["p50_ms"],
        "identical": identical(folder, masked, items),
    }


def identical(folder: Path, masked: ServingModule, items: int) -> bool:
    """Whether both answer some histories with the same items."""
    rows = tf.constant(histories(64, items, 0))
    ours = tf.saved_model.load(str(folder)).signatures["explore"](history=rows)
    return np.array_equal(ours["item_ids"], masked.explore(rows)["item_ids"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--items", type=whole_number(1000), default=ITEMS)
    parser.add_argument("--clusters", type=whole_number(3), default=CLUSTERS)
    flags = parser.parse_args(argv)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # TensorFlow has as many threads
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(Path(folder), flags.items, flags.clusters)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
