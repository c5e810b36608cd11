"""Exact top k within clusters: ClusterTopK beside TFRS's BruteForce with a mask.

Each query asks for one random cluster. Brute force scores all items, masks other clusters and takes
the best. Both run in a concrete function of TensorFlow. `vs_brute_force` compares their queries/s,
each at its best batch size; `by_batch` compares them at equal batch sizes. `empty_call_us` is a
call that does nothing: the lower limit of the time of any call. `growth_10x_items` is the time of a
query among ten times as many items in ten times as many clusters, divided by the time among the
items, for the batch size with the largest growth. Coordinates are multiples of 1/64: sums of
products are exact in float32, and both must return identical bits.
"""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks.common.masked_brute_force import MaskedBruteForce, TopK
from benchmarks.common.output import command_line, print_table, say
from models.retrieval.serving.cluster_top_k import ClusterTopK, Queries, tf
from pipelines.launch.flag_types import whole_number

DIMENSION = 64
BATCHES = (1, 64, 256, 512, 1024)
MASKED_BATCHES = (1, 64, 256, 512)  # the scores of 1,024 queries and their mask would take 9 GB
LEAST_CALLS, LEAST_QUERIES = 10, 500  # in a run

Search = Callable[[tf.Tensor, tf.Tensor], TopK]


def random_vectors(count: int, seed: int) -> np.ndarray:
    """Return vectors [count, DIMENSION] of normal coordinates, rounded to multiples of 1/64."""
    normal = np.random.default_rng(seed).standard_normal((count, DIMENSION), np.float32)
    return np.round(normal * 64) / 64


def random_items(count: int, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors [count, DIMENSION] of items, and the cluster [count] of each."""
    ids = np.random.default_rng(1).integers(0, clusters, count).astype(np.int32)
    return random_vectors(count, 0), ids


def random_queries(batch: int, clusters: int) -> Queries:
    """Return queries and the cluster that each asks for."""
    asked = np.random.default_rng(batch).integers(0, clusters, (batch, 1)).astype(np.int32)
    return tf.constant(random_vectors(batch, 2)), tf.constant(asked)


def compiled(layer: Callable[[Queries], TopK]) -> Search:
    """Compile a layer that takes (queries, cluster_ids) to a concrete function.

    A call of a concrete function does not look up which function to call, like the call of a
    SavedModel's signature.
    """
    signature = [tf.TensorSpec([None, DIMENSION]), tf.TensorSpec([None, 1], tf.int32)]
    function = tf.function(lambda *queries: layer(queries), input_signature=signature)
    return function.get_concrete_function()


def seconds_per_query(search: Search, queries: Queries) -> float:
    """Return the median over some calls, after one to warm up."""
    batch = int(queries[0].shape[0])
    search(*queries)
    times = []
    for _ in range(max(LEAST_CALLS, LEAST_QUERIES // batch)):
        begun = time.perf_counter()
        search(*queries)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) / batch


def compare(items: int, clusters: int, k: int, repeats: int) -> dict[str, object]:
    """Measure, print the table and return the figures of the last line."""
    say("generating the items")
    vectors, ids = random_items(items, clusters)
    more_vectors, more_ids = random_items(10 * items, 10 * clusters)
    ours, larger, masked = "ours", f"ours, {10 * items:,} items", "brute force"
    searches = {
        ours: compiled(ClusterTopK(clusters, k=k).index(vectors, clusters=ids)),
        larger: compiled(ClusterTopK(10 * clusters, k=k).index(more_vectors, clusters=more_ids)),
        masked: compiled(MaskedBruteForce(tf.constant(ids), k).index(tf.constant(vectors))),
    }
    rows: list[list[str]] = []
    best = dict.fromkeys(searches, np.inf)  # seconds per query
    by_batch: dict[int, float] = {}
    growths: list[float] = []
    identical = True
    for batch in BATCHES:
        queries = dict.fromkeys(searches, random_queries(batch, clusters))
        queries[larger] = random_queries(batch, 10 * clusters)
        names = [name for name in searches if name != masked or batch in MASKED_BATCHES]
        runs: dict[str, list[float]] = {name: [] for name in names}
        for repeat in range(repeats):
            say(f"batches of {batch}, run {repeat + 1} of {repeats}")
            for name in names:
                runs[name].append(seconds_per_query(searches[name], queries[name]))
        medians = {name: statistics.median(run) for name, run in runs.items()}
        best |= {name: min(best[name], seconds) for name, seconds in medians.items()}
        growths.append(medians[larger] / medians[ours])
        if masked in names:
            by_batch[batch] = medians[masked] / medians[ours]
            answers = (searches[name](*queries[name]) for name in (ours, masked))
            identical &= all(map(np.array_equal, *answers))
        cells = [f"{1e6 * medians[name]:,.1f} us" if name in names else "" for name in searches]
        ratio = f"{by_batch[batch]:.0f}x" if batch in by_batch else ""
        rows.append([str(batch), *cells, ratio, f"{growths[-1]:.2f}"])
    print_table(["batch", *searches, "ours is", "growth"], rows)
    empty_call = seconds_per_query(compiled(lambda queries: queries), random_queries(1, clusters))
    return {
        "vs_brute_force": best[masked] / best[ours],
        "by_batch": by_batch,
        "empty_call_us": 1e6 * empty_call,
        "growth_10x_items": max(growths),
        "identical": identical,
    }


def main() -> None:
    """Run from a command line."""
    parser = command_line("topk", __doc__)
    parser.add_argument("--items", type=whole_number(1000), default=1_000_000, help="to search in")
    parser.add_argument("--clusters", type=whole_number(10), default=761, help="of the items")
    parser.add_argument("--k", type=whole_number(1), default=20, help="items in an answer")
    parser.add_argument("--repeats", type=whole_number(1), default=5, help="runs, for a median")
    print(json.dumps(compare(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
