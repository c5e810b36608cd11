"""K-means of all levels of a tree at once, with capacities.

An item is to be near the centroids of its clusters on every level, which is the same as near their
mean, the site of its finest cluster. Points and sites move in turn; prices keep the clusters of all
levels within their capacities.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse

from models.clustering.balancing import TOLERANCE, Cap, capped_prices, total_prices
from models.clustering.cluster_tree import ClusterTree, ancestors_of
from models.clustering.embedding_arrays import batches, label_means, label_sums, scatter
from models.clustering.power_diagram import PowerDiagram

_GAIN, _PATIENCE = 1e-4, 5  # least gain, as a share of the objective, and rounds without it
_LAST_PRICE_STEPS = 300  # where the best round still left a cluster overfull
_PRICE_DECAY = 0.9  # per round, so that an obsolete price vanishes
_FAR_OUT = 10.0  # length of the site of a point that fills a cluster alone


@dataclass(frozen=True)
class Points:
    """The distinct embeddings that are clustered."""

    points: np.ndarray  # [m, d] float32, distinct
    masses: np.ndarray  # [m] > 0, weights in the objective
    heavy: np.ndarray  # ids of the points that fill a cluster alone


def refined(
    work: Points, labels: np.ndarray, parents: tuple[np.ndarray, ...], caps: list[Cap], rounds: int
) -> ClusterTree:
    """Improve finest clusters [m] of points, none of them empty, within the caps.

    The cost of an item is the mean of the squared distances to the centroids of its clusters on all
    levels: the squared distance to their mean, the site, and the spread of the centroids around it.
    Returns the best of at most `rounds` rounds, in which every cluster holds a point.
    """
    ancestors = ancestors_of(parents)
    prices = [np.zeros(len(cap.capacities)) for cap in caps]
    best, tree = (np.inf, np.inf), _of_medoids(work, labels, parents)
    mark, waited = best, 0
    for _ in range(rounds):
        sites, spread = _sites(work, labels, ancestors)
        prices = [_PRICE_DECAY * price for price in prices]
        labels_under = PowerDiagram(work.points, sites, total_prices(spread, caps, prices))
        found = capped_prices(labels_under, spread, caps, prices)
        if found is None:
            break
        prices, labels = found.of_caps, found.labels
        cost = scatter(work.points, work.masses, labels, sites) + work.masses @ spread[labels]
        quality = (max(found.excess, TOLERANCE), float(cost))
        if quality < best:
            best, state = quality, (spread, caps, prices)
            tree = ClusterTree(sites, found.total, parents)
        if quality < (mark[0], (1 - _GAIN) * mark[1]):
            mark, waited = quality, 0
        elif (waited := waited + 1) == _PATIENCE:
            break
    if TOLERANCE < best[0] < np.inf:
        labels_under = PowerDiagram(work.points, tree.sites, tree.prices)
        found = capped_prices(labels_under, *state, most_steps=_LAST_PRICE_STEPS)
        if found and found.excess < best[0]:
            tree = replace(tree, prices=found.total)
    return tree


def _sites(
    work: Points, labels: np.ndarray, ancestors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the centroids above each finest cluster, and their spread around it.

    [finest, d] float32 and [finest].
    """
    count = ancestors.shape[1]
    sums = label_sums(work.points, work.masses, labels, count)
    masses = np.bincount(labels, work.masses, count)
    centroids = []
    for above in ancestors:
        members = scipy.sparse.csr_array((np.ones(count), (above, np.arange(count))))
        centroids.append(((members @ sums) / (members @ masses)[:, None])[above])
    sites = np.mean(centroids, axis=0).astype(np.float32)
    spread = np.mean([((sites - of_level) ** 2).sum(1) for of_level in centroids], axis=0)
    # The site of a heavy point lies far out in the direction of the point, which no other direction
    # is as close to: the heavy point is the last to leave when the price of its cluster rises.
    sites[labels[work.heavy]] = _FAR_OUT * work.points[work.heavy]
    spread[labels[work.heavy]] = -((_FAR_OUT - 1) ** 2)
    return sites, spread


def _of_medoids(work: Points, labels: np.ndarray, parents: tuple[np.ndarray, ...]) -> ClusterTree:
    """Put the site of each cluster on its point nearest to the mean: no cluster is empty."""
    count = len(parents[-1])
    means = label_means(work.points, work.masses, labels, count)
    offsets = np.concatenate(
        [
            ((work.points[part] - means[labels[part]]) ** 2).sum(1)
            for part in batches(*work.points.shape)
        ]
    )
    order = np.lexsort((offsets, labels))
    _, first = np.unique(labels[order], return_index=True)
    sites = work.points[order[first]].astype(np.float32)
    return ClusterTree(sites, np.zeros(count, np.float32), parents)
