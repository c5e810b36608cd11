"""The nearest of many sites, each with a price: ``||x - site||^2 + price``.

Costs live on a grid far coarser than the noise of floating point: a point gets the same site
whatever the batch it comes in, and any two different points differ in cost.
"""

import numpy as np

from models.clustering.unit_vectors import batches

_COST_DECIMALS = 9
_NOISE = 10.0**-_COST_DECIMALS
_LISTED = 32  # sites per point


def costs(points: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Return squared distances less the squared length of the point: [n, k] float64, on a grid."""
    wide = sites.astype(np.float64)
    found = points.astype(np.float64) @ (-2 * wide.T)  # [n, k]
    found += (wide * wide).sum(1)
    return found.round(_COST_DECIMALS, out=found)


def nearest(points: np.ndarray, sites: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Return the site of each point: the first argmin of cost + price, [n] int64.

    Parameters
    ----------
    points
        [n, d].
    sites
        [k, d].
    prices
        [k], inf for a site that may not be taken.
    """
    labels = np.empty(len(points), np.int64)
    for part in batches(len(points), max(sites.shape)):
        labels[part] = (costs(points[part], sites) + prices).argmin(1)
    return labels


class PowerDiagram:
    """`nearest` for the same points and sites under prices that change little by little.

    Each point has a list of the sites that were cheapest for it under some prices, and how much
    the cheapest beyond it cost then. As long as no price has fallen by more than what lies between
    these, the cheapest is in the list. A point for which that is not certain gets a new list.
    """

    def __init__(self, points: np.ndarray, sites: np.ndarray, prices: np.ndarray) -> None:
        listed = (len(points), min(_LISTED, len(sites)))
        self._points, self._sites = points, sites
        self._clusters = np.empty(listed, np.int32)
        self._costs = np.empty(listed)
        self._beyond = np.empty(len(points))
        self._listing = np.zeros(len(points), np.int32)  # which of the prices
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
        """Make the lists of some points under prices; return the cheapest site of each."""
        count, listed = len(self._sites), self._costs.shape[1]
        labels = np.empty(len(rows), np.int64)
        for part in batches(len(rows), max(self._sites.shape)):
            of = rows[part]
            found = costs(self._points[of], self._sites)
            scores = found + prices
            labels[part] = scores.argmin(1)
            if listed < count:
                order = np.argpartition(scores, listed, axis=1)[:, : listed + 1]
                self._beyond[of] = scores[np.arange(len(of)), order[:, -1]]
                clusters = np.sort(order[:, :-1], axis=1)  # of equals the first, as argmin
            else:
                self._beyond[of] = np.inf
                clusters = np.broadcast_to(np.arange(count), found.shape)
            self._clusters[of] = clusters
            self._costs[of] = np.take_along_axis(found, clusters, axis=1)
        self._listing[rows] = len(self._prices)
        self._prices.append(prices.astype(np.float64))
        return labels
