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
    """Lower the prices [finest] of clusters until each has `least` items, where that is possible.

    `points` [m, d] stand for `counts` [m] items. A cluster gets the items that are nearest to it by
    cost, as far as possible from clusters that have more than enough. The prices of the round with
    the fewest missing items are returned.
    """
    best, fewest = prices, np.inf
    for _ in range(_ROUNDS):
        labels = nearest(points, sites, prices)
        held = np.bincount(labels, counts, len(sites))
        missing = np.maximum(least - held, 0)
        if missing.sum() < fewest:
            best, fewest = prices, missing.sum()
        if not missing.any():
            break
        prices = prices.copy()
        for cluster in np.flatnonzero(missing):
            outside = np.flatnonzero(labels != cluster)
            margins = _margins(points[outside], sites, prices, cluster)
            order = np.argsort(margins, kind="stable")
            drawn = int(np.searchsorted(counts[outside][order].cumsum(), missing[cluster]))
            fall = margins[order[drawn : drawn + 2]].mean()
            prices[cluster] -= np.float32(fall)
    return best


def _margins(points: np.ndarray, sites: np.ndarray, prices: np.ndarray, cluster: int) -> np.ndarray:
    """Return how far the price of a cluster must fall to be the cheapest of each point [m]."""
    margins = np.empty(len(points))
    for part in batches(len(points), max(sites.shape)):
        scores = costs(points[part], sites) + prices
        margins[part] = scores[:, cluster] - scores.min(1)
    return margins
