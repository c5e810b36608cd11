"""The nearest of many sites, each with a price: ``||x - site||^2 + price``.

Costs are rounded to a grid that is far coarser than floating-point noise: the site of a point does
not depend on its batch, and any two different points differ in cost.
"""

import numpy as np

from models.clustering.embedding_arrays import batches

_COST_DECIMALS = 9
_NOISE = 10.0**-_COST_DECIMALS
_LISTED = 32  # sites per point


def costs(points: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Return ``||x - site||^2 - ||x||^2`` on the grid: [n, k] float64."""
    wide = sites.astype(np.float64)
    found = points.astype(np.float64) @ (-2 * wide.T)  # [n, k]
    found += (wide * wide).sum(1)
    return found.round(_COST_DECIMALS, out=found)


def nearest(points: np.ndarray, sites: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Return the site of each point, the first argmin of cost + price: [n] int64.

    A price [k] is inf for a site that may not be used.
    """
    labels = np.empty(len(points), np.int64)
    for part in batches(len(points), max(sites.shape)):
        labels[part] = (costs(points[part], sites) + prices).argmin(1)
    return labels


class PowerDiagram:
    """`nearest` for fixed points and sites under prices that change in small steps.

    Each point has a list of the sites that were cheapest for it under some earlier prices, and the
    score of the cheapest site outside the list. While no price has fallen by more than the gap
    between the two, the cheapest site is in the list. Other points get a new list.
    """

    def __init__(self, points: np.ndarray, sites: np.ndarray, prices: np.ndarray) -> None:
        listed = (len(points), min(_LISTED, len(sites)))
        self._points, self._sites = points, sites
        self._clusters = np.empty(listed, np.int32)
        self._costs = np.empty(listed)
        self._beyond = np.empty(len(points))  # score of the cheapest site outside the list
        self._listing = np.zeros(len(points), np.int32)  # place in `_prices`
        self._prices: list[np.ndarray] = []
        self._list(np.arange(len(points)), prices)

    def __call__(self, prices: np.ndarray) -> np.ndarray:
        """Return the site of each point [n] int64 under the prices [k]."""
        labels = np.empty(len(self._points), np.int64)
        fallen = np.array([(prices - earlier).min() for earlier in self._prices])
        unsure = []
        for part in batches(len(labels), self._costs.shape[1]):
            scores = self._costs[part] + prices[self._clusters[part]]
            best = scores.argmin(1)
            at = np.arange(len(best))
            labels[part] = self._clusters[part][at, best]
            least = self._beyond[part] + fallen[self._listing[part]] - _NOISE
            unsure.append(part.start + np.flatnonzero(scores[at, best] >= least))
        again = np.concatenate(unsure)
        if len(again):
            labels[again] = self._list(again, prices)
        return labels

    def _list(self, rows: np.ndarray, prices: np.ndarray) -> np.ndarray:
        """Make new lists for some points; return the cheapest site of each."""
        count, listed = len(self._sites), self._costs.shape[1]
        labels = np.empty(len(rows), np.int64)
        for part in batches(len(rows), max(self._sites.shape)):
            at = rows[part]
            found = costs(self._points[at], self._sites)
            scores = found + prices
            labels[part] = scores.argmin(1)
            if listed < count:
                order = np.argpartition(scores, listed, axis=1)[:, : listed + 1]
                self._beyond[at] = scores[np.arange(len(at)), order[:, -1]]
                clusters = np.sort(order[:, :-1], axis=1)  # the first of equals, as argmin
            else:
                self._beyond[at] = np.inf
                clusters = np.broadcast_to(np.arange(count), found.shape)
            self._clusters[at] = clusters
            self._costs[at] = np.take_along_axis(found, clusters, axis=1)
        self._listing[rows] = len(self._prices)
        self._prices.append(prices.astype(np.float64))
        return labels
