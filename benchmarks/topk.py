"""Exact top k within clusters: ClusterTopK beside TFRS's BruteForce with a mask.

Each query asks for one cluster drawn at random. Brute force scores all items with the layer's own
product, masks those of other clusters and takes the best; both run in a concrete function of
TensorFlow. `vs_brute_force` compares their queries/s, each in batches of the size that suits it
best; `by_batch` in batches of the same size, where a call with nothing to do, `empty_call_us`, is
what no way can be faster than. Growth is the time of a query among ten times as many items, in ten
times as many clusters, over that among the items, in the batches where it is most. Coordinates are
multiples of 1/64, so that sums of products are exact in float32 and both must return the same bits.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.progress import say
from models.retrieval.serving.cluster_top_k import ClusterTopK, Queries, tf, tfrs
from pipelines.launch.flag_types import whole_number

ITEMS, DIMENSION, CLUSTERS, K = 1_000_000, 64, 761, 20
BATCHES = (1, 64, 256, 512, 1024)
MASKED_BATCHES = (1, 64, 256, 512)  # the scores of 1,024 queries and their mask would take 9 GB
LEAST_CALLS, LEAST_QUERIES = 10, 500  # in a run

Answer = tuple[tf.Tensor, tf.Tensor]  # scores, positions
Way = Callable[[tf.Tensor, tf.Tensor], Answer]


class MaskedBruteForce(tfrs.layers.factorized_top_k.BruteForce):
    """BruteForce that takes (queries, cluster_ids [batch, 1]) and masks other clusters' items."""

    def __init__(self, clusters: tf.Tensor, k: int) -> None:
        super().__init__(k=k)
        self.clusters = clusters  # [items]

    def call(self, queries: Queries, k: int | None = None) -> Answer:
        """Scores and positions [batch, k]."""
        queries, cluster_ids = queries
        scores = self._compute_score(queries, self._candidates)  # [batch, items]
        scores = tf.where(self.clusters == cluster_ids, scores, -np.inf)
        best = tf.math.top_k(scores, self._k if k is None else k)
        found = tf.gather(self._identifiers, best.indices)
        none = tf.constant("" if found.dtype == tf.string else -1, found.dtype)
        return best.values, tf.where(best.values == -np.inf, none, found)

    def search(self, queries: Queries, excluded: tf.Tensor | None, k: int | None = None) -> Answer:
        """Do as `ClusterTopK.search`, but exclude nothing."""
        return self.call(queries, k)


def draw(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Vectors of normal coordinates, rounded to multiples of 1/64."""
    normal = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return np.round(normal * 64) / 64


def items_of(count: int, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [count, DIMENSION] of items, and the cluster [count] of each."""
    of = np.random.default_rng(1).integers(0, clusters, count).astype(np.int32)
    return draw((count, DIMENSION), 0), of


def ours(vectors: np.ndarray, of: np.ndarray, clusters: int, k: int) -> Way:
    """Index items by cluster."""
    return way_of(ClusterTopK(clusters, k=k).index(vectors, clusters=of))


def way_of(layer: tf.keras.Model) -> Way:
    """Compile a layer that takes (queries, cluster_ids), to be called as a SavedModel's signature.

    Which function to call is not looked up anew at each call.
    """
    signature = [tf.TensorSpec([None, DIMENSION]), tf.TensorSpec([None, 1], tf.int32)]
    compiled = tf.function(lambda *queries: layer(queries), input_signature=signature)
    return compiled.get_concrete_function()


@tf.function(input_signature=[tf.TensorSpec([None, DIMENSION]), tf.TensorSpec([None, 1], tf.int32)])
def nothing(queries: tf.Tensor, cluster_ids: tf.Tensor) -> Answer:
    """Do nothing, as a compiled function."""
    return queries, cluster_ids


def queries_of(batch: int, clusters: int) -> Queries:
    """Return queries and the cluster that each asks for."""
    asked = np.random.default_rng(batch).integers(0, clusters, (batch, 1)).astype(np.int32)
    return tf.constant(draw((batch, DIMENSION), 2)), tf.constant(asked)


def seconds_a_query(way: Way, queries: Queries) -> float:
    """Median over some calls, after one to warm up."""
    batch = int(queries[0].shape[0])
    way(*queries)
    times = []
    for _ in range(max(LEAST_CALLS, LEAST_QUERIES // batch)):
        begun = time.perf_counter()
        way(*queries)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) / batch


def compare(items: int, clusters: int, k: int, repeats: int) -> dict[str, object]:
    """Measure, print the table and return the figures of the last line."""
    say("making the items")
    vectors, of = items_of(items, clusters)
    own = ours(vectors, of, clusters, k)
    masked = way_of(MaskedBruteForce(tf.constant(of), k).index(tf.constant(vectors)))
    larger = ours(*items_of(10 * items, 10 * clusters), 10 * clusters, k)
    in_larger = f"ours, {10 * items:,} items"
    columns = {"ours": own, in_larger: larger, "brute force": masked}
    print(
        f"{'batch':8}"
        + "".join(f"{name:>24}" for name in columns)
        + f"{'ours is':>10}{'growth':>8}"
    )
    best = dict.fromkeys(columns, np.inf)  # seconds a query
    ratios: dict[int, float] = {}
    growths: list[float] = []
    identical = True
    for batch in BATCHES:
        queries = queries_of(batch, clusters)
        queries_in_larger = queries_of(batch, 10 * clusters)
        runs: dict[str, list[float]] = {name: [] for name in columns}
        for repeat in range(repeats):
            say(f"batches of {batch}, run {repeat + 1} of {repeats}")
            for name, way in columns.items():
                if way is masked and batch not in MASKED_BATCHES:
                    continue
                asked = queries_in_larger if way is larger else queries
                runs[name].append(seconds_a_query(way, asked))
        medians = {name: statistics.median(run) for name, run in runs.items() if run}
        best |= {name: min(best[name], seconds) for name, seconds in medians.items()}
        growths.append(medians[in_larger] / medians["ours"])
        ratio = ""
        if batch in MASKED_BATCHES:
            ratios[batch] = medians["brute force"] / medians["ours"]
            ratio = f"{ratios[batch]:.0f}x"
            pairs = zip(own(*queries), masked(*queries), strict=True)
            identical &= all(np.array_equal(one, other) for one, other in pairs)
        cells = [f"{1e6 * medians[name]:,.1f} us" if name in medians else "" for name in columns]
        line = "".join(f"{cell:>24}" for cell in cells)
        print(f"{batch:<8}{line}{ratio:>10}{growths[-1]:>8.2f}")
    return {
        "vs_brute_force": best["brute force"] / best["ours"],
        "by_batch": ratios,
        "empty_call_us": 1e6
        * seconds_a_query(nothing.get_concrete_function(), queries_of(1, clusters)),
        "growth_10x_items": max(growths),
        "identical": identical,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.topk", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--items", type=whole_number(1000), default=ITEMS)
    parser.add_argument("--clusters", type=whole_number(10), default=CLUSTERS)
    parser.add_argument("--k", type=whole_number(1), default=K, help="items in an answer")
    parser.add_argument("--repeats", type=whole_number(1), default=5, help="for a median")
    flags = parser.parse_args(argv)
    print(json.dumps(compare(flags.items, flags.clusters, flags.k, flags.repeats)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
