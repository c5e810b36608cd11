"""A tree of interest clusters of about equal traffic.

Every node is split by a k-means whose assignment is a semi-discrete optimal transport: an item
goes to ``argmin_c ||x - centroid_c||^2 + price_c``, and prices are raised where traffic is above
its target and lowered where it is below (dual ascent; Aurenhammer, Hoffmann and Aronov,
"Minkowski-type theorems and least-squares clustering", Algorithmica 20, 1998). So an assignment is
a pure function of the embedding, and items unseen at the fit are assigned by the same rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

# Embeddings and costs live on grids far coarser than the noise of floating point: an item gets the
# same cluster whatever the batch it comes in, and any two different embeddings differ in cost.
_EMBEDDING_DECIMALS = 4
_COST_DECIMALS = 9

_ROUNDS = 12  # of centroid updates per split
_PRICE_STEPS = 100  # per round
_TOLERANCE = 0.03  # norm of the relative errors of the clusters' traffic that is as good as none
_MOST = 1.5  # times the mean traffic of the level, where no single item is heavier
_SMOOTHING = 0.01  # of the mean traffic, given to each embedding so that unseen items have a say


@dataclass(frozen=True)
class ClusterTree:
    """Clusters of every level, coarsest first; children of one parent have consecutive ids.

    Attributes
    ----------
    centroids
        Per level [n_level, d] float32, in the space of L2-normalised embeddings.
    prices
        Per level [n_level] float32, in squared distance.
    parents
        Per level [n_level] int32, non-decreasing ids of the level above; -1 at level 0.
    """

    centroids: tuple[np.ndarray, ...]
    prices: tuple[np.ndarray, ...]
    parents: tuple[np.ndarray, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of clusters per level."""
        return tuple(len(prices) for prices in self.prices)


def fit_cluster_tree(
    embeddings: np.ndarray, traffic: np.ndarray, sizes: Sequence[int], seed: int
) -> ClusterTree:
    """Split the items top-down into clusters of about equal traffic.

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
    seed
        Of the k-means++ seeds.

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
    rows = _unit_rows(embeddings)
    traffic = np.asarray(traffic, np.float64)
    if traffic.shape != (len(rows),):
        raise ValueError(
            f"traffic of shape {traffic.shape} for {len(rows)} embeddings: pass one number per item"
        )
    if not (np.isfinite(traffic) & (traffic >= 0)).all():
        raise ValueError("traffic must be finite and >= 0: count the interactions of each item")

    points, point_ids = np.unique(rows, axis=0, return_inverse=True)  # [m, d], [n]
    if len(points) < sizes[-1]:
        raise ValueError(
            f"{len(rows)} items have {len(points)} distinct embeddings, fewer than the {sizes[-1]} "
            f"clusters asked for: ask for at most {len(points)} clusters, or give the items texts "
            "that differ"
        )
    weights = np.bincount(point_ids.ravel(), traffic, len(points))  # [m]
    weights = weights + (_SMOOTHING * weights.mean() if weights.any() else 1.0)

    rng = np.random.default_rng(seed)
    nodes = np.zeros(len(points), np.int64)  # [m], cluster of each point at the level above
    tree: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for size, next_size in zip(sizes, (*sizes[1:], sizes[-1]), strict=True):
        mean = weights.sum() / size
        capped = np.minimum(weights, mean)
        limit = max(_MOST * mean, weights.max())
        capacity = np.bincount(nodes)
        loads = np.bincount(nodes, capped)
        children = apportion(size, loads, np.ones_like(capacity), capacity)
        grandchildren = apportion(next_size, loads, children, capacity)
        members = np.split(np.argsort(nodes, kind="stable"), np.cumsum(capacity)[:-1])

        centroids, prices = [], []
        first_ids = np.cumsum(children) - children
        for node, of_node in enumerate(members):
            shares = _shares(children[node], grandchildren[node])
            means, price, costs = _split(points[of_node], capped[of_node], shares, rng)
            price = _shed(costs, weights[of_node], price, limit)
            centroids.append(means)
            prices.append(price)
            nodes[of_node] = first_ids[node] + (costs + price).argmin(1)
        parents = np.repeat(np.arange(len(children)), children) if tree else np.full(size, -1)
        tree.append((np.concatenate(centroids), np.concatenate(prices), parents.astype(np.int32)))
    return ClusterTree(*(tuple(arrays) for arrays in zip(*tree, strict=True)))


def assign_clusters(tree: ClusterTree, embeddings: np.ndarray) -> np.ndarray:
    """Assign items to one cluster per level, from the top down.

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
    rows = _unit_rows(embeddings)
    if rows.shape[1] != tree.centroids[0].shape[1]:
        raise ValueError(
            f"embeddings have {rows.shape[1]} dimensions, the tree {tree.centroids[0].shape[1]}: "
            "embed the items with the encoder that the tree was fitted on"
        )
    cluster_ids = np.zeros((len(rows), len(tree.sizes)), np.int32)
    nodes = np.full(len(rows), -1)
    for level, parents in enumerate(tree.parents):
        for node in np.unique(nodes):
            of_node = np.flatnonzero(nodes == node)
            first, last = np.searchsorted(parents, [node, node + 1])
            costs = _costs(rows[of_node], tree.centroids[level][first:last])
            nearest = (costs + tree.prices[level][first:last]).argmin(1)
            cluster_ids[of_node, level] = first + nearest
        nodes = cluster_ids[:, level].astype(np.int64)
    return cluster_ids


def traffic_balance(cluster_ids: np.ndarray, traffic: np.ndarray, count: int) -> float:
    """Return the largest over the mean traffic of the clusters of a level.

    Parameters
    ----------
    cluster_ids
        [n] int.
    traffic
        [n], >= 0.
    count
        Number of clusters.

    Examples
    --------
    >>> traffic_balance(np.array([0, 0, 1]), np.array([1.0, 2.0, 1.0]), 2)
    1.5
    """
    loads = np.bincount(cluster_ids, traffic, count)
    return float(loads.max() / loads.mean()) if loads.any() else 1.0


def apportion(seats: int, votes: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Give out seats in proportion to votes by the largest remainder, within bounds.

    Parameters
    ----------
    seats
        low.sum() <= seats <= high.sum().
    votes
        [n] float, > 0 somewhere.
    low, high
        [n] int, low <= high.

    Returns
    -------
    np.ndarray
        [n] int, low <= result <= high, sum = seats.

    Examples
    --------
    >>> apportion(5, np.array([6.0, 3.0, 1.0]), np.array([1, 1, 1]), np.array([9, 9, 9]))
    array([3, 1, 1])
    """
    quota = seats * votes / votes.sum()
    given = np.clip(quota.astype(np.int64), low, high)
    while given.sum() < seats:
        given[np.where(given < high, quota - given, -np.inf).argmax()] += 1
    while given.sum() > seats:
        given[np.where(given > low, quota - given, np.inf).argmin()] -= 1
    return given


def _checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in sizes)
    if not sizes or sizes[0] < 1 or sizes[-1] < 3 or any(np.diff(sizes) < 0):
        raise ValueError(
            f"cluster sizes {sizes}: give one positive number per level that does not decrease "
            "from coarse to fine and ends at 3 or more, such as 8, 16, 32, 48"
        )
    return sizes


def _unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """L2-normalised rows [n, d] float64 on the grid of embeddings; a row of zeros stays."""
    rows = np.array(embeddings, np.float64, ndmin=2)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(
            f"embeddings of shape {rows.shape} must be [items, dimensions] and finite: look for "
            "NaN or infinite values in the embedding column"
        )
    # Scaling by the largest entry first keeps the squares of huge and tiny values in range.
    rows /= np.maximum(np.abs(rows).max(1, initial=0, keepdims=True), np.finfo(np.float64).tiny)
    rows /= np.maximum(np.sqrt((rows * rows).sum(1, keepdims=True)), np.finfo(np.float64).tiny)
    return rows.round(_EMBEDDING_DECIMALS) + 0.0  # -0.0 becomes 0.0


def _costs(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Squared distances [n, k] float64 on the grid of costs."""
    means = centroids.astype(np.float64)
    costs = points @ means.T  # [n, k]
    costs *= -2
    costs += (points * points).sum(1)[:, None]
    costs += (means * means).sum(1)
    return costs.round(_COST_DECIMALS, out=costs)


def _shares(children: int, grandchildren: int) -> np.ndarray:
    """Return the target shares [children] of a node's traffic.

    Equal shares suit this level; shares in proportion to the clusters below suit the next one, as
    where 3 clusters must fit under 2. Their geometric mean keeps both levels about within 1.25.
    """
    below = grandchildren // children + (np.arange(children) < grandchildren % children)
    shares = np.sqrt(below)
    return shares / shares.sum()


def _split(
    points: np.ndarray, weights: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Balanced k-means of distinct points.

    Parameters
    ----------
    points
        [n, d], distinct.
    weights
        [n], > 0.
    shares
        [k], targets of the weight of each cluster, sum 1, k <= n.
    rng
        For the seeds.

    Returns
    -------
    tuple of np.ndarray
        centroids [k, d] float32, prices [k] float32 and costs [n, k]; no cluster is empty.
    """
    targets = shares * weights.sum()
    centroids = _seeds(points, weights, len(shares), rng)
    prices = np.zeros(len(shares), np.float32)
    best: tuple[float, float] = (np.inf, np.inf)
    result = None
    for _ in range(_ROUNDS if len(shares) > 1 else 2):
        costs = _costs(points, centroids)
        balanced = balance_prices(costs, weights, targets, prices)
        if balanced is None:
            break
        prices, labels, error = balanced
        inertia = float(weights @ costs[np.arange(len(points)), labels])
        if (quality := (max(error, _TOLERANCE), inertia)) < best:
            best, result = quality, (centroids, prices, costs)
        mean_of = scipy.sparse.csr_array((weights, (labels, np.arange(len(points)))))
        centroids = (mean_of @ points / mean_of.sum(1)[:, None]).astype(np.float32)
    assert result is not None  # each seed holds its own point in the first round
    return result


def balance_prices(
    costs: np.ndarray, weights: np.ndarray, targets: np.ndarray, prices: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Find prices under which every cluster carries about its target weight.

    Ascent on the dual of the transport problem, whose gradient is load - target. Each price has its
    own step that grows while its error keeps its sign and shrinks when that flips (Riedmiller and
    Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm",
    ICNN 1993).

    Parameters
    ----------
    costs
        [n, k] float64.
    weights, targets
        [n] and [k], > 0, of equal sum.
    prices
        [k] float32 to start from.

    Returns
    -------
    tuple or None
        prices [k] float32, labels [n] = argmin(costs + prices) and the norm of the relative errors
        of the loads; the best found in which no cluster is empty, None if each had an empty one.
    """
    best = None
    best_error = np.inf
    steps = np.full(len(targets), 0.05 * costs.mean())
    last_signs = np.zeros(len(targets))
    for _ in range(_PRICE_STEPS):
        labels = (costs + prices).argmin(1)
        errors = np.bincount(labels, weights, len(targets)) / targets - 1
        error = float(np.linalg.norm(errors))
        if error < best_error and np.bincount(labels, minlength=len(targets)).all():
            best, best_error = (prices, labels, error), error
        if best_error <= _TOLERANCE:
            break
        signs = np.where(np.abs(errors) > _TOLERANCE / 4, np.sign(errors), 0)
        steps *= np.choose((signs * last_signs).astype(int) + 1, [0.5, 1.0, 1.2])
        moved = prices + steps * signs
        prices = (moved - moved.min()).astype(np.float32)
        last_signs = signs
    return best


def _shed(costs: np.ndarray, weights: np.ndarray, prices: np.ndarray, limit: float) -> np.ndarray:
    """Raise the prices of clusters heavier than the limit until what is over it goes elsewhere.

    Points that lose least go first. Nothing changes where the heaviest cluster would not get
    lighter.
    """
    count = len(prices)
    labels = (costs + prices).argmin(1)
    loads = np.bincount(labels, weights, count)
    if count == 1 or loads.max() <= limit:
        return prices
    shed = prices.copy()
    for cluster in np.flatnonzero(loads > limit):
        members = np.flatnonzero(labels == cluster)
        scores = costs[members] + shed
        margins = np.delete(scores, cluster, axis=1).min(1) - scores[:, cluster]
        # The heaviest point stays: wherever it went would be overfull instead.
        margins = np.minimum(margins, margins[weights[members].argmax()])
        order = np.argsort(-margins, kind="stable")
        within = int(np.searchsorted(weights[members[order]].cumsum(), limit, side="right"))
        kept = max(within, int((margins == margins.max()).sum()))
        if kept < len(members):
            shed[cluster] += margins[order[kept - 1 : kept + 1]].mean()
    loads_after = np.bincount((costs + shed).argmin(1), weights, count)
    return shed if loads_after.all() and loads_after.max() < loads.max() else prices


def _seeds(
    points: np.ndarray, weights: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Distinct points [count, d] float32 by k-means++ (Arthur and Vassilvitskii, SODA 2007)."""
    chosen = [int(rng.choice(len(points), p=weights / weights.sum()))]
    distances = np.full(len(points), np.inf)
    while len(chosen) < count:
        seed = points[chosen[-1:]].astype(np.float32)
        distances = np.minimum(distances, _costs(points, seed)[:, 0])
        odds = weights * distances
        odds[chosen] = 0  # rounding of the seed to float32 leaves a trace of distance
        chosen.append(int(rng.choice(len(points), p=odds / odds.sum())))
    return points[chosen].astype(np.float32)
