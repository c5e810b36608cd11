"""Clusters of real items beside plain k-means of the same sizes.

Plain k-means fits each level independently and ignores traffic. Three more methods show the cost of
balance and of the tree: `priced` is k-means with prices that keep the same balance, each level
independently; `nested` is k-means of the finest level, whose centroids are clustered by k-means for
the levels above; `levels` is ours with each level fitted independently: balanced, but no tree.

For each data set and level: balance (largest over mean traffic; in brackets, the balance if the
most popular item were alone in its cluster), coherence and separation of items weighted equally and
by traffic, and stability over two seeds and over two fits on random 90% of the items. The last line
is one JSON object.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from benchmarks.common.datasets import ENCODER, FOLDER, SETS, real_items
from benchmarks.common.output import command_line, print_table
from models.clustering.balancing import Cap, capped_prices
from models.clustering.cluster_quality import cluster_quality
from models.clustering.cluster_tree import assign_clusters, most_traffic, traffic_balance
from models.clustering.fit_cluster_tree import fit_cluster_tree
from models.clustering.power_diagram import PowerDiagram, nearest
from models.clustering.text_encoder import TextEncoder
from transforms import schemas as col
from transforms.clusters.item_embeddings import item_texts

_MAX_PRICE_STEPS = 2_000
_PART = 0.9  # of the items, for the stability over samples

# (embeddings [n, d], traffic [n], items to fit on [p], clusters per level, seed) -> [n, levels]
Method = Callable[[np.ndarray, np.ndarray, np.ndarray, list[int], int], np.ndarray]
Measures = list[dict[str, float]]  # of each level


def fit_k_means(
    rows: np.ndarray, size: int, seed: int, weights: np.ndarray | None = None
) -> KMeans:
    """Fit scikit-learn's KMeans with its defaults."""
    return KMeans(size, random_state=seed).fit(rows, None, weights)


def k_means(
    rows: np.ndarray, traffic: np.ndarray, part: np.ndarray, sizes: list[int], seed: int
) -> np.ndarray:
    """Fit k-means for each level."""
    return np.stack([fit_k_means(rows[part], size, seed).predict(rows) for size in sizes], axis=1)


def priced_k_means(
    rows: np.ndarray, traffic: np.ndarray, part: np.ndarray, sizes: list[int], seed: int
) -> np.ndarray:
    """Fit k-means for each level, then prices that keep every cluster below its cap."""
    levels = []
    loads = traffic[part] + np.finfo(float).tiny
    for size in sizes:
        sites = fit_k_means(rows[part], size, seed).cluster_centers_
        cap = Cap(loads, np.arange(size), np.full(size, most_traffic(loads, size)))
        none = np.zeros(size, np.float32)
        diagram = PowerDiagram(rows[part], sites, none)
        found = capped_prices(diagram, none, [cap], [none], _MAX_PRICE_STEPS)
        levels.append(nearest(rows, sites, none if found is None else found[1]))
    return np.stack(levels, axis=1)


def nested_k_means(
    rows: np.ndarray, traffic: np.ndarray, part: np.ndarray, sizes: list[int], seed: int
) -> np.ndarray:
    """Fit k-means for the finest level, and for each level above on the centroids below."""
    model = fit_k_means(rows[part], sizes[-1], seed)
    weights = np.bincount(model.labels_, minlength=sizes[-1])
    levels = [model.predict(rows)]
    for size in sizes[-2::-1]:
        model = fit_k_means(model.cluster_centers_, size, seed, weights)
        levels.append(model.labels_[levels[-1]])
        weights = np.bincount(model.labels_, weights, size)
    return np.stack(levels[::-1], axis=1)


def ours(
    rows: np.ndarray, traffic: np.ndarray, part: np.ndarray, sizes: list[int], seed: int
) -> np.ndarray:
    """Fit as build_clusters does.

    The seed only draws build_clusters' sample, which has all items of these data sets.
    """
    return assign_clusters(fit_cluster_tree(rows[part], traffic[part], sizes), rows)


def independent_levels(
    rows: np.ndarray, traffic: np.ndarray, part: np.ndarray, sizes: list[int], seed: int
) -> np.ndarray:
    """Fit each level as ours, independently of the others."""
    return np.concatenate([ours(rows, traffic, part, [size], seed) for size in sizes], axis=1)


METHODS: dict[str, Method] = {
    "k-means": k_means,
    "priced": priced_k_means,
    "nested": nested_k_means,
    "levels": independent_levels,
    "ours": ours,
}


def measure(rows: np.ndarray, traffic: np.ndarray, sizes: list[int], method: Method) -> Measures:
    """Measure the clusters of every level."""
    rng = np.random.default_rng(0)
    everything = np.arange(len(rows))
    begun = time.monotonic()
    assigned = method(rows, traffic, everything, sizes, 0)
    seconds = time.monotonic() - begun
    other_seed = method(rows, traffic, everything, sizes, 1)
    samples = [np.sort(rng.permutation(len(rows))[: int(_PART * len(rows))]) for _ in range(2)]
    one, other = (method(rows, traffic, sample, sizes, 0) for sample in samples)
    found = []
    for level, ids in enumerate(assigned.T):
        equal, by_traffic = cluster_quality(rows, ids), cluster_quality(rows, ids, traffic)
        found.append(
            {
                "balance": traffic_balance(np.bincount(ids, traffic)),
                "coherence": equal.coherence,
                "traffic_coherence": by_traffic.coherence,
                "separation": equal.separation,
                "traffic_separation": by_traffic.separation,
                "seed_stability": adjusted_rand_score(ids, other_seed[:, level]),
                "sample_stability": adjusted_rand_score(one[:, level], other[:, level]),
                "seconds": seconds,
            }
        )
    return found


def print_measures(
    name: str, sizes: list[int], heaviest: float, found: dict[str, Measures]
) -> None:
    """Print a table of a data set; `heaviest` is the most popular item's share of the traffic."""
    columns = [column for column in found["ours"][0] if column != "seconds"]
    rows = []
    for level, size in enumerate(sizes):
        for method, levels in found.items():
            cells = [f"{levels[level][column]:.3f}" for column in columns]
            rows.append([method, str(size), *cells])
        rows[-1][2] = f"({size * heaviest:.2f}) {rows[-1][2]}"
    print(f"\n{name}")
    print_table(["", "clusters", *columns], rows)
    print(", ".join(f"{method} {levels[0]['seconds']:.1f} s" for method, levels in found.items()))


def main() -> None:
    """Run from a command line."""
    parser = command_line("clusters", __doc__)
    parser.add_argument("--sizes", default="6,12,24,48", help="clusters per level")
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder of the data sets")
    flags = parser.parse_args()
    sizes = [int(size) for size in flags.sizes.split(",")]
    encoder = TextEncoder(ENCODER)
    results: dict[str, dict[str, Measures]] = {}
    for name in SETS:
        with tempfile.TemporaryDirectory() as scratch:
            items = real_items(name, flags.data, Path(scratch))
        if items is None:
            print(f"{name}: not in {flags.data}, left out")
            continue
        rows = encoder.encode(item_texts(items))
        traffic = items[col.TRAFFIC].to_numpy()
        results[name] = {
            method: measure(rows, traffic, sizes, assign) for method, assign in METHODS.items()
        }
        print_measures(name, sizes, traffic.max() / traffic.sum(), results[name])
    print(json.dumps({"sizes": sizes, "datasets": results}))


if __name__ == "__main__":
    main()
