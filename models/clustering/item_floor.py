"""Fills clusters up to a least number of items.

Balanced traffic alone gives an item of much traffic a cluster of its own, in which a user who knows
the item finds nothing more.
"""

import numpy as np

from models.clustering.embedding_arrays import batches
from models.clustering.power_diagram import costs, nearest

_ROUNDS = 20  # a cluster may take items from another one that is then too small


def filled(
    points: np.ndarray, sites: np.ndarray, prices: np.ndarray, counts: np.ndarray, least: float
) -> np.ndarray:
    """Lower the prices [finest] of clusters with fewer than `least` items until they have as many.

    `points` [m, d] stand for `counts` [m] items; `least` is at most half of the mean of a cluster.
    A cluster is given the nearest points of the clusters that have enough. If one of these then has
    too few, it is filled in the next round. The prices with the fewest missing items are returned.
    """
    best, fewest = prices, np.inf
    for _ in range(_ROUNDS):
        labels = nearest(points, sites, prices)
        missing = np.maximum(least - np.bincount(labels, counts, len(sites)), 0)
        if missing.sum() < fewest:
            best, fewest = prices, missing.sum()
        if not missing.any():
            break
        short = np.flatnonzero(missing)
        others = np.flatnonzero(missing[labels] == 0)
        margins = _margins(points[others], sites, prices, short)
        prices = prices.copy()
        for cluster, margin in zip(short, margins.T, strict=True):
            order = np.argsort(margin, kind="stable")
            last = np.searchsorted(counts[others][order].cumsum(), missing[cluster])
            prices[cluster] -= margin[order[last : last + 2]].mean()
    return best


def _margins(
    points: np.ndarray, sites: np.ndarray, prices: np.ndarray, clusters: np.ndarray
) -> np.ndarray:
    """Return how far the price of each of some clusters must fall to be the cheapest of each point.

    [m, clusters] float32.
    """
    margins = np.empty((len(points), len(clusters)), np.float32)
    for part in batches(len(points), max(sites.shape)):
        scores = costs(points[part], sites) + prices
        margins[part] = scores[:, clusters] - scores.min(1, keepdims=True)
    return margins
