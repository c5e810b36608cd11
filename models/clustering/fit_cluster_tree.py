"""Fits a tree of interest clusters of about equal traffic.

The sites come from a k-means of all levels at once. Prices are raised where a cluster of any level
has more traffic than allowed (dual ascent on a transport problem with capacities; Aurenhammer,
Hoffmann and Aronov, "Minkowski-type theorems and least-squares clustering", Algorithmica 20, 1998).
At last, prices fall where a cluster has too few items.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models.clustering.balancing import Cap, fair_share, shed
from models.clustering.cluster_tree import ClusterTree, ancestors_of, most_traffic
from models.clustering.embedding_arrays import rounded_unit_rows
from models.clustering.initialization import CAPACITY, labels_of_points, split_tree
from models.clustering.item_floor import filled
from models.clustering.refinement import Points, refined

_ROUNDS = 40
_SMOOTHING = 0.01  # of the mean traffic, added to each embedding so that unseen items count
_TRAFFIC_SHARE = 0.5  # of the objective, weighted by traffic; the rest weighs all items alike


def fit_cluster_tree(
    embeddings: np.ndarray,
    traffic: np.ndarray,
    sizes: Sequence[int],
    times: np.ndarray | None = None,
    start: tuple[np.ndarray, tuple[np.ndarray, ...]] | None = None,
    least_items: int = 1,
) -> ClusterTree:
    """Group items into clusters with a limit on their traffic, `most_traffic` of each level.

    An item heavier than a whole cluster's share counts as one share: it fills a cluster and does
    not reserve further clusters for its neighbours. A cluster with fewer than `least_items` gets
    the nearest items of other clusters, also beyond the limit. Every cluster holds an item.

    Parameters
    ----------
    embeddings
        [n, d] of any length; only directions count.
    traffic
        [n] interactions per item, >= 0.
    sizes
        Number of clusters per level, coarse to fine.
    times
        [n] how many items each represents; 1 each by default.
    start
        An earlier fit to begin with: the finest cluster of each item [n], -1 for a new item, and
        the parents of each level.
    least_items
        Items of a finest cluster, at most half of the mean.

    Raises
    ------
    ValueError
        For sizes that decrease or end below 3, values that are not finite, and fewer distinct
        embeddings than clusters.
    """
    sizes = tuple(int(size) for size in sizes)
    if not sizes or sizes[0] < 1 or sizes[-1] < 3 or any(np.diff(sizes) < 0):
        raise ValueError(
            f"cluster sizes {sizes}: give one positive number per level that does not decrease "
            "from coarse to fine and ends at 3 or more, such as 8, 16, 32, 48"
        )
    rows = rounded_unit_rows(embeddings)
    times = np.ones(len(rows)) if times is None else np.asarray(times, np.float64)
    traffic = np.asarray(traffic, np.float64)
    if not traffic.shape == times.shape == (len(rows),):
        raise ValueError(
            f"traffic of shape {traffic.shape} for {len(rows)} embeddings: pass one number per item"
        )
    if not (np.isfinite(traffic) & (traffic >= 0)).all():
        raise ValueError("traffic must be finite and >= 0: count the interactions of each item")
    points, point_of = np.unique(rows, axis=0, return_inverse=True)  # [m, d], [n]
    point_of = point_of.ravel()
    if len(points) < sizes[-1]:
        raise ValueError(
            f"{len(rows)} items have {len(points)} distinct embeddings, fewer than the {sizes[-1]} "
            f"clusters asked for: ask for at most {len(points)} clusters, or give the items texts "
            "that differ"
        )
    counts = np.bincount(point_of, times, len(points))
    loads = np.bincount(point_of, times * traffic, len(points))
    loads += _SMOOTHING * counts * (loads.sum() / counts.sum() if loads.any() else 1.0)
    masses = (1 - _TRAFFIC_SHARE) * counts / counts.sum() + _TRAFFIC_SHARE * loads / loads.sum()
    shares = [np.minimum(loads, fair_share(loads, size)) for size in sizes]
    work = Points(points, masses, np.flatnonzero(loads > shares[-1]))
    if start is None:
        labels, parents = split_tree(work, loads, shares, sizes)
    else:
        parents = start[1]
        labels = labels_of_points(work, start[0], sizes[-1], point_of, times)
    tree = refined(work, labels, parents, _caps(shares, loads, parents), _ROUNDS)
    prices = tree.prices
    for above, size in zip(tree.ancestors[::-1], tree.sizes[::-1], strict=True):
        cap = Cap(loads, above, np.full(size, most_traffic(loads, size)))
        prices = shed(points, tree.sites, prices, cap)
    least = min(least_items, counts.sum() / sizes[-1] / 2)
    prices = filled(points, tree.sites, prices, counts, least)
    return replace(tree, prices=prices)


def _caps(
    shares: list[np.ndarray], loads: np.ndarray, parents: tuple[np.ndarray, ...]
) -> list[Cap]:
    """Return the caps of all levels on the shares, and on the loads where these differ."""
    caps = []
    for of_level, above, share in zip(parents, ancestors_of(parents), shares, strict=True):
        size = len(of_level)
        caps.append(Cap(share, above, np.full(size, CAPACITY * share.sum() / size)))
        if loads.max() > share.max():
            most = max(CAPACITY * loads.sum() / size, loads.max())
            caps.append(Cap(loads, above, np.full(size, most)))
    return caps
