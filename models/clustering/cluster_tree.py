"""A tree of interest clusters of about equal traffic.

An item goes to the cluster of the finest level with the least ``||x - site||^2 + price``; its other
clusters are those above. The sites come from a k-means of all levels at once: an item is to be near
the centroids of its clusters on every level, which is the same as near their mean, the site.
Prices are raised where a cluster of any level has more traffic than it may have (dual ascent on a
transport problem with capacities; Aurenhammer, Hoffmann and Aronov, "Minkowski-type theorems and
least-squares clustering", Algorithmica 20, 1998). So an assignment is a pure function of the
embedding, and items unseen at the fit are assigned by the same rule.

The start is a tree of splits, each at the mean along the principal direction, of the part that is
scattered most (Su and Dy, "In search of deterministic methods for initializing k-means and Gaussian
mixture clustering", Intelligent Data Analysis 11, 2007). Nothing is random.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse

from models.clustering.balancing import (
    TOLERANCE,
    Cap,
    apportion,
    capped_prices,
    fair_share,
    shed,
    summed,
)
from models.clustering.initialization import principal_parts
from models.clustering.power_diagram import PowerDiagram, nearest
from models.clustering.unit_vectors import batches, label_sums, scatters, unit_rows

_START_ROUNDS = 12  # of centroid updates per split
_ROUNDS = 40  # of all levels at once
_GAIN, _PATIENCE = 1e-4, 5  # share of the objective, and rounds that may bring less than it
_LAST_PRICE_STEPS = 300  # where the best round still left a cluster overfull
_PRICE_DECAY = 0.9  # per round, so that a price that is no longer needed goes
_MOST = 1.5  # times the mean traffic of the level, where no single item is heavier
_CAPACITY = 1.42  # the same at the fit: what is over it, up to the tolerance, is as good as none
_SMOOTHING = 0.01  # of the mean traffic, given to each embedding so that unseen items have a say
_TRAFFIC_SHARE = 0.5  # of the objective that counts items by traffic; the rest counts each alike
_FAR_OUT = 10.0  # length of the site of a point that fills a cluster alone


@dataclass(frozen=True)
class ClusterTree:
    """Clusters of every level, coarsest first.

    Attributes
    ----------
    sites
        [finest, d] float32, in the space of L2-normalised embeddings.
    prices
        [finest] float32, in squared distance.
    parents
        Per level [n_level] int32: ids of the level above; -1 at level 0. Those of a fit from
        scratch never fall.
    """

    sites: np.ndarray
    prices: np.ndarray
    parents: tuple[np.ndarray, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of clusters per level."""
        return tuple(map(len, self.parents))

    @property
    def ancestors(self) -> np.ndarray:
        """Cluster of every level that holds each finest one: [levels, finest] int32."""
        return _ancestors(self.parents)


def fit_cluster_tree(
    embeddings: np.ndarray,
    traffic: np.ndarray,
    sizes: Sequence[int],
    times: np.ndarray | None = None,
    start: tuple[np.ndarray, tuple[np.ndarray, ...]] | None = None,
) -> ClusterTree:
    """Group items into clusters of which none has much more than the mean traffic of its level.

    An item heavier than a whole cluster's share counts as one share: it fills a cluster of its own
    and claims no further ones for its neighbours.

    Parameters
    ----------
    embeddings
        [n, d] float, any length; directions count.
    traffic
        [n] interactions per item, >= 0.
    sizes
        Number of clusters per level, coarse to fine.
    times
        [n] how many items each stands for; 1 each by default.
    start
        The clusters to begin with, of an earlier fit: of the finest level per item [n], -1 for an
        item that had none, and the parents of each level.

    Returns
    -------
    ClusterTree
        Every cluster of every level holds at least one of the items.

    Raises
    ------
    ValueError
        On sizes that decrease or end below 3, values that are not finite, and fewer distinct
        embeddings than clusters.
    """
    sizes = _checked_sizes(sizes)
    rows = unit_rows(embeddings)
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
    work = _Points(points, masses, np.flatnonzero(loads > shares[-1]))
    if start is None:
        labels, parents = _split_all(work, loads, shares, sizes)
    else:
        parents = start[1]
        labels = _labels_of_points(work, start[0], sizes[-1], point_of, times)
    tree = _refined(work, labels, parents, _caps(shares, loads, parents), _ROUNDS)
    prices = tree.prices
    for above, size in zip(tree.ancestors[::-1], tree.sizes[::-1], strict=True):
        cap = Cap(loads, above, np.full(size, most_traffic(loads, size)))
        prices = shed(points, tree.sites, prices, cap)
    return replace(tree, prices=prices)


def most_traffic(loads: np.ndarray, size: int) -> float:
    """Return what a cluster may carry, of `size` among which the loads [n] of items are shared."""
    return float(max(_MOST * loads.sum() / size, loads.max()))


def assign_clusters(tree: ClusterTree, embeddings: np.ndarray) -> np.ndarray:
    """Assign items to one cluster per level.

    Parameters
    ----------
    tree
        From `fit_cluster_tree`.
    embeddings
        [n, d] float. Each row is assigned by itself: batches give the same as all at once.

    Returns
    -------
    np.ndarray
        [n, levels] int32.
    """
    embeddings = np.atleast_2d(embeddings)
    if embeddings.shape[1] != tree.sites.shape[1]:
        raise ValueError(
            f"embeddings have {embeddings.shape[1]} dimensions, the tree {tree.sites.shape[1]}: "
            "embed the items with the encoder that the tree was fitted on"
        )
    return tree.ancestors.T[nearest(unit_rows(embeddings), tree.sites, tree.prices)]


def traffic_balance(loads: np.ndarray) -> float:
    """Return the largest over the mean traffic of the clusters of a level; 1 without traffic.

    Parameters
    ----------
    loads
        [M], >= 0, of the clusters.

    Examples
    --------
    >>> traffic_balance(np.array([3.0, 1.0]))
    1.5
    """
    return float(loads.max() / loads.mean()) if loads.any() else 1.0


def _checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in sizes)
    if not sizes or sizes[0] < 1 or sizes[-1] < 3 or any(np.diff(sizes) < 0):
        raise ValueError(
            f"cluster sizes {sizes}: give one positive number per level that does not decrease "
            "from coarse to fine and ends at 3 or more, such as 8, 16, 32, 48"
        )
    return sizes


@dataclass(frozen=True)
class _Points:
    """What is clustered.

    Attributes
    ----------
    points
        [m, d] float64, distinct.
    masses
        [m] > 0, what each counts in the objective.
    heavy
        Ids of points that fill a cluster alone.
    """

    points: np.ndarray
    masses: np.ndarray
    heavy: np.ndarray


def _ancestors(parents: Sequence[np.ndarray]) -> np.ndarray:
    rows = [np.arange(len(parents[-1]))]
    for of_level in reversed(parents[1:]):
        rows.append(of_level[rows[-1]])
    return np.stack(rows[::-1]).astype(np.int32)


def _caps(
    shares: list[np.ndarray], loads: np.ndarray, parents: tuple[np.ndarray, ...]
) -> list[Cap]:
    """Return the caps of all levels on the shares, and on the loads where these are others."""
    caps = []
    for of_level, above, share in zip(parents, _ancestors(parents), shares, strict=True):
        size = len(of_level)
        caps.append(Cap(share, above, np.full(size, _CAPACITY * share.sum() / size)))
        if loads.max() > share.max():
            most = max(_CAPACITY * loads.sum() / size, loads.max())
            caps.append(Cap(loads, above, np.full(size, most)))
    return caps


def _split_all(
    work: _Points, weights: np.ndarray, shares: list[np.ndarray], sizes: tuple[int, ...]
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Split top-down: clusters of the finest level [m] and the parents of each level.

    `weights` is traffic, and `shares`, of each level, the same with no more than a cluster's share.
    """
    nodes = np.zeros(len(work.points), np.int64)  # [m], cluster of each point at the level above
    parents: list[np.ndarray] = []
    for level, size in enumerate(sizes):
        below_it = min(level + 1, len(sizes) - 1)
        next_size, share, next_share = sizes[below_it], shares[level], shares[below_it]
        points_of = np.bincount(nodes)
        loads = np.bincount(nodes, share)
        children = apportion(size, loads, np.ones_like(points_of), points_of)
        grandchildren = apportion(next_size, np.bincount(nodes, next_share), children, points_of)
        members = np.split(np.argsort(nodes, kind="stable"), np.cumsum(points_of)[:-1])
        first_ids = np.cumsum(children) - children
        for node, of_node in enumerate(members):
            count = int(children[node])
            # What a child holds must have room in the clusters below it too.
            below = grandchildren[node] // count + (np.arange(count) < grandchildren[node] % count)
            capacities = _CAPACITY * np.minimum(
                share.sum() / size, below * next_share.sum() / next_size
            )
            capacities *= max(1.0, 1.05 * loads[node] / capacities.sum())
            heavy = np.flatnonzero((weights > share)[of_node])
            part = _Points(work.points[of_node], work.masses[of_node], heavy)
            labels = _split(part, share[of_node], capacities) if count > 1 else 0
            nodes[of_node] = first_ids[node] + labels
        above = np.repeat(np.arange(len(children)), children) if parents else np.full(size, -1)
        parents.append(above.astype(np.int32))
    return nodes, tuple(parents)


def _split(part: _Points, shares: np.ndarray, capacities: np.ndarray) -> np.ndarray:
    """Split the points of a node [k] into clusters: ids from 0 [k], none without a point."""
    count, heavy = len(capacities), part.heavy
    if len(heavy) >= count:  # too many for one each
        part, heavy = replace(part, heavy=heavy[:0]), heavy[:0]
    others = np.setdiff1d(np.arange(len(shares)), heavy)
    labels = np.empty(len(shares), np.int64)
    labels[heavy] = np.arange(len(heavy))
    labels[others] = len(heavy) + principal_parts(
        part.points[others], part.masses[others], count - len(heavy)
    )
    cap = Cap(shares, np.arange(count), capacities)
    tree = _refined(part, labels, (np.full(count, -1, np.int32),), [cap], _START_ROUNDS)
    labels = nearest(part.points, tree.sites, tree.prices)
    alone = labels[heavy]
    if len(set(alone.tolist())) == len(heavy):  # each has a cluster: for itself alone
        prices = tree.prices.copy()
        prices[alone] = np.inf
        labels[others] = nearest(part.points[others], tree.sites, prices)
    return labels


def _labels_of_points(
    work: _Points, start: np.ndarray, count: int, point_of: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Finest clusters [m] to begin with: those of most items of a point, else the nearest mean."""
    known = start >= 0
    votes = scipy.sparse.csr_array(
        (times[known], (point_of[known], start[known])),
        shape=(len(work.points), count),
    )
    labels = np.asarray(votes.argmax(1)).ravel()
    voted = np.asarray(votes.sum(1)).ravel() > 0
    means = _means(work.points[voted], work.masses[voted], labels[voted], count)
    there = np.unique(labels[voted])
    labels[~voted] = there[nearest(work.points[~voted], means[there], np.zeros(len(there)))]
    for cluster in np.setdiff1d(np.arange(count), there):  # all its items have gone
        several = np.flatnonzero(np.bincount(labels, minlength=count)[labels] > 1)
        labels[several[((work.points - means[labels])[several] ** 2).sum(1).argmax()]] = cluster
    return labels


def _means(points: np.ndarray, masses: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Weighted means [count, d] of the points of each label, nan where there is none."""
    with np.errstate(invalid="ignore"):
        return (
            label_sums(points, masses, labels, count) / np.bincount(labels, masses, count)[:, None]
        )


def _refined(
    work: _Points, labels: np.ndarray, parents: tuple[np.ndarray, ...], caps: list[Cap], rounds: int
) -> ClusterTree:
    """Move points and sites in turn, with prices under which no cluster is overfull.

    An item costs the mean of the squared distances to the centroids of its clusters on all levels:
    the squared distance to their mean, the site, and what they spread around it.

    Parameters
    ----------
    labels
        [m] int64, finest cluster of each point to begin with; none is without.
    parents
        Of each level; they stay.
    caps
        What no cluster may exceed.
    rounds
        At most.

    Returns
    -------
    ClusterTree
        The best of all rounds; every cluster holds a point.
    """
    ancestors = _ancestors(parents)
    prices = [np.zeros(len(cap.capacities)) for cap in caps]
    best, tree = (np.inf, np.inf), _of_medoids(work, labels, parents)
    mark, waited = best, 0
    for _ in range(rounds):
        sites, spread = _sites(work, labels, ancestors)
        prices = [_PRICE_DECAY * price for price in prices]
        labels_under = PowerDiagram(work.points, sites, summed(spread, caps, prices))
        found = capped_prices(labels_under, spread, caps, prices)
        if found is None:
            break
        prices, price, moved, error = found
        cost = scatters(work.points, work.masses, moved, sites) + work.masses @ spread[moved]
        quality = (max(error, TOLERANCE), float(cost))
        if quality < best:
            best, tree, state = quality, ClusterTree(sites, price, parents), (spread, caps, prices)
        labels = moved
        if quality < (mark[0], (1 - _GAIN) * mark[1]):
            mark, waited = quality, 0
        elif (waited := waited + 1) == _PATIENCE:
            break
    if TOLERANCE < best[0] < np.inf:
        labels_under = PowerDiagram(work.points, tree.sites, tree.prices)
        found = capped_prices(labels_under, *state, most_steps=_LAST_PRICE_STEPS)
        tree = replace(tree, prices=found[1]) if found and found[3] < best[0] else tree
    return tree


def _sites(
    work: _Points, labels: np.ndarray, ancestors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means of the centroids above each finest cluster, and how these spread around it.

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
    # Of all directions a point's own lies deepest in the cell of a site far out in it: it is the
    # last to go where the price of its cluster rises.
    sites[labels[work.heavy]] = _FAR_OUT * work.points[work.heavy]
    spread[labels[work.heavy]] = -((_FAR_OUT - 1) ** 2)
    return sites, spread


def _of_medoids(work: _Points, labels: np.ndarray, parents: tuple[np.ndarray, ...]) -> ClusterTree:
    """Sites at the point of each cluster that is nearest to its mean: no cluster is empty."""
    count = len(parents[-1])
    means = _means(work.points, work.masses, labels, count)
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
