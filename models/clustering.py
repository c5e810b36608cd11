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

# Embeddings and costs live on grids far coarser than the noise of floating point: an item gets the
# same cluster whatever the batch it comes in, and any two different embeddings differ in cost.
_EMBEDDING_DECIMALS = 4
_COST_DECIMALS = 9

_START_ROUNDS = 12  # of centroid updates per split
_ROUNDS = 40  # of all levels at once
_STILL = 1e-4  # share of the items that move in a round that is as good as none
_PRICE_STEPS = 20  # per round
_LAST_PRICE_STEPS = 300  # where the best round still left a cluster overfull
_PRICE_STEP = 0.01  # first step of a price, in squared distance
_PRICE_DECAY = 0.9  # per round, so that a price that is no longer needed goes
_MOST = 1.5  # times the mean traffic of the level, where no single item is heavier
_CAPACITY = 1.42  # the same at the fit: what is over it, up to the tolerance, is as good as none
_TOLERANCE = 0.02
_SMOOTHING = 0.01  # of the mean traffic, given to each embedding so that unseen items have a say
_TRAFFIC_SHARE = 0.5  # of the objective that counts items by traffic; the rest counts each alike
_FAR_OUT = 10.0  # length of the site of a point that fills a cluster alone
_BATCH = 4_096  # rows of items times clusters that are looked at at once


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
    rows = _unit_rows(embeddings)
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
    shares = [np.minimum(loads, _fair_share(loads, size)) for size in sizes]
    work = _Points(points, masses, np.flatnonzero(loads > shares[-1]))
    if start is None:
        labels, parents = _split_all(work, loads, shares, sizes)
    else:
        parents = start[1]
        labels = _labels_of_points(work, start[0], sizes[-1], point_of, times)
    tree = _refined(work, labels, parents, _caps(shares, loads, parents), _ROUNDS)
    return _shed(points, loads, tree)


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
    finest = np.zeros(len(embeddings), np.int64)
    for first in range(0, len(embeddings), _BATCH):
        part = slice(first, first + _BATCH)
        finest[part] = (_costs(_unit_rows(embeddings[part]), tree.sites) + tree.prices).argmin(1)
    return tree.ancestors.T[finest]


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


@dataclass(frozen=True)
class Cap:
    """What the clusters of a level may carry of a weight.

    Attributes
    ----------
    weights
        [m] > 0.
    clusters
        [finest] int, the cluster of the level that holds each finest one.
    capacities
        [n_level] > 0.
    """

    weights: np.ndarray
    clusters: np.ndarray
    capacities: np.ndarray


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


def _fair_share(loads: np.ndarray, count: int) -> float:
    """Return the share of each of `count` clusters if what is heavier than one counts as one."""
    share = loads.sum() / count
    while (lower := np.minimum(loads, share).sum() / count) < share * (1 - 1e-6):
        share = lower
    return float(share)


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
    labels[others] = len(heavy) + _principal_parts(
        part.points[others], part.masses[others], count - len(heavy)
    )
    cap = Cap(shares, np.arange(count), capacities)
    tree = _refined(part, labels, (np.full(count, -1, np.int32),), [cap], _START_ROUNDS)
    scores = _costs(part.points, tree.sites) + tree.prices
    labels = scores.argmin(1)
    if len(set(labels[heavy].tolist())) == len(heavy):  # each has a cluster: for itself alone
        scores[np.ix_(others, labels[heavy])] = np.inf
        labels[others] = scores[others].argmin(1)
    return labels


def _principal_parts(points: np.ndarray, masses: np.ndarray, count: int) -> np.ndarray:
    """Halve, along its principal direction, the part with the most scatter until there are `count`.

    Parameters
    ----------
    points
        [m, d], distinct.
    masses
        [m] > 0.
    count
        At most m.

    Returns
    -------
    np.ndarray
        [m] int64, ids of parts; none is empty.
    """
    parts = [np.arange(len(points))]
    scatters = [1.0]
    while len(parts) < count:
        widest = int(np.argmax(scatters))
        part = parts[widest]
        mass = masses[part]
        offsets = points[part] - mass @ points[part] / mass.sum()
        weighted = offsets * np.sqrt(mass)[:, None]
        direction = np.linalg.eigh(weighted.T @ weighted)[1][:, -1]
        # The side of the mean; its sign, and so the order of the parts, by the largest component.
        side = (offsets @ direction).round(_COST_DECIMALS) * np.sign(
            direction[np.abs(direction).argmax()]
        ) > 0
        if side.all() or not side.any():  # as close as rounding: any half will do
            side = np.arange(len(part)) < len(part) // 2
        parts[widest : widest + 1] = [part[side], part[~side]]
        scatters[widest : widest + 1] = [
            _scatter(points[half], masses[half]) for half in (part[side], part[~side])
        ]
    labels = np.empty(len(points), np.int64)
    for number, part in enumerate(parts):
        labels[part] = number
    return labels


def _scatter(points: np.ndarray, masses: np.ndarray) -> float:
    """Sum of squared distances to the mean, 0 for a single point."""
    if len(points) == 1:
        return 0.0
    offsets = points - masses @ points / masses.sum()
    return float(masses @ (offsets * offsets).sum(1))


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
    nearest = _costs(work.points[~voted], means[there]).argmin(1)
    labels[~voted] = there[nearest]
    for cluster in np.setdiff1d(np.arange(count), there):  # all its items have gone
        several = np.flatnonzero(np.bincount(labels, minlength=count)[labels] > 1)
        labels[several[((work.points - means[labels])[several] ** 2).sum(1).argmax()]] = cluster
    return labels


def _means(points: np.ndarray, masses: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Weighted means [count, d] of the points of each label, nan where there is none."""
    members = scipy.sparse.csr_array(
        (masses, (labels, np.arange(len(points)))), (count, len(points))
    )
    with np.errstate(invalid="ignore"):
        return (members @ points) / members.sum(1)[:, None]


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
    for _ in range(rounds):
        centroids = [
            _means(work.points, work.masses, above[labels], len(of_level))[above]
            for above, of_level in zip(ancestors, parents, strict=True)
        ]
        sites = np.mean(centroids, axis=0).astype(np.float32)
        spread = np.mean([((sites - of_level) ** 2).sum(1) for of_level in centroids], axis=0)
        # Of all directions a point's own lies deepest in the cell of a site far out in it: it is
        # the last to go where the price of its cluster rises.
        sites[labels[work.heavy]] = _FAR_OUT * work.points[work.heavy]
        spread[labels[work.heavy]] = -((_FAR_OUT - 1) ** 2)
        costs = _costs(work.points, sites)
        found = capped_prices(costs, spread, caps, [_PRICE_DECAY * price for price in prices])
        if found is None:
            break
        prices, price, moved, error = found
        own = costs[np.arange(len(moved)), moved] + spread[moved]
        quality = (max(error, _TOLERANCE), float(work.masses @ own))
        if quality < best:
            best, tree, state = quality, ClusterTree(sites, price, parents), (spread, caps, prices)
        still = (moved != labels).mean() <= _STILL
        labels = moved
        if still:
            break
    if _TOLERANCE < best[0] < np.inf:
        found = capped_prices(_costs(work.points, tree.sites), *state, most_steps=_LAST_PRICE_STEPS)
        tree = replace(tree, prices=found[1]) if found and found[3] < best[0] else tree
    return tree


def _of_medoids(work: _Points, labels: np.ndarray, parents: tuple[np.ndarray, ...]) -> ClusterTree:
    """Sites at the point of each cluster that is nearest to its mean: no cluster is empty."""
    count = len(parents[-1])
    means = _means(work.points, work.masses, labels, count)
    offsets = ((work.points - means[labels]) ** 2).sum(1)
    order = np.lexsort((offsets, labels))
    _, first = np.unique(labels[order], return_index=True)
    sites = work.points[order[first]].astype(np.float32)
    return ClusterTree(sites, np.zeros(count, np.float32), parents)


def capped_prices(
    costs: np.ndarray,
    base: np.ndarray,
    caps: Sequence[Cap],
    prices: Sequence[np.ndarray],
    most_steps: int = _PRICE_STEPS,
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, float] | None:
    """Find prices under which no cluster of any level is overfull.

    Ascent on the dual of the transport problem, whose gradient is load - capacity. Each price has
    its own step that grows while it keeps its direction and shrinks when that flips (Riedmiller
    and Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm",
    ICNN 1993).

    Parameters
    ----------
    costs
        [m, finest] float64.
    base
        [finest] what a cluster costs in any case.
    caps
        One or more per level.
    prices
        Of the clusters of each cap, to start from.
    most_steps
        Of the ascent.

    Returns
    -------
    tuple or None
        The prices of each cap, their sum and the base [finest] float32, labels [m] =
        argmin(costs + sum), and the largest excess of a load, in capacities; the best found in
        which no finest cluster is empty, None if each had an empty one.
    """
    best = None
    best_error = np.inf
    prices = list(prices)
    steps = [np.full(len(price), _PRICE_STEP) for price in prices]
    last_signs = [np.zeros(len(price)) for price in prices]
    for _ in range(most_steps):
        total = base.astype(np.float64)
        for cap, price in zip(caps, prices, strict=True):
            total = total + price[cap.clusters]
        total = total.astype(np.float32)
        labels = _cheapest(costs, total)
        errors = [
            np.bincount(cap.clusters[labels], cap.weights, len(cap.capacities)) / cap.capacities - 1
            for cap in caps
        ]
        error = max(0.0, *(float(of_cap.max()) for of_cap in errors))
        if error < best_error and np.bincount(labels, minlength=costs.shape[1]).all():
            best, best_error = (list(prices), total, labels, error), error
        if best_error <= _TOLERANCE:
            break
        for at, of_cap in enumerate(errors):
            # Down again where there is room, and below none where a cluster is empty.
            lower = (of_cap < -_TOLERANCE) & (prices[at] > 0) | (of_cap == -1)
            signs = np.where(of_cap > 0, 1.0, np.where(lower, -1.0, 0.0))
            steps[at] = steps[at] * np.choose(
                (signs * last_signs[at]).astype(int) + 1, [0.5, 1.0, 1.2]
            )
            prices[at] = prices[at] + steps[at] * signs
            last_signs[at] = signs
    return best


def _cheapest(costs: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Return argmin(costs + prices) of each row: [m] int64."""
    labels = np.empty(len(costs), np.int64)
    for first in range(0, len(costs), _BATCH):
        labels[first : first + _BATCH] = (costs[first : first + _BATCH] + prices).argmin(1)
    return labels


def _shed(points: np.ndarray, loads: np.ndarray, tree: ClusterTree) -> ClusterTree:
    """Raise the prices of clusters heavier than they may be until what is over it goes elsewhere.

    From the finest level up; points that lose least go first. Nothing changes on a level where the
    heaviest cluster would not get lighter, or a finest one would be empty.
    """
    costs = _costs(points, tree.sites)
    for above, size in zip(tree.ancestors[::-1], tree.sizes[::-1], strict=True):
        limit = max(_MOST * loads.sum() / size, loads.max())
        before = np.bincount(above[_cheapest(costs, tree.prices)], loads, size)
        if before.max() <= limit:
            continue
        prices = tree.prices.copy()
        for cluster in np.flatnonzero(before > limit):
            prices[above == cluster] += _surcharge(costs, prices, above == cluster, loads, limit)
        after = _cheapest(costs, prices)
        lighter = np.bincount(above[after], loads, size).max() < before.max()
        if lighter and np.bincount(after, minlength=len(prices)).all():
            tree = replace(tree, prices=prices)
    return tree


def _surcharge(
    costs: np.ndarray, prices: np.ndarray, inside: np.ndarray, loads: np.ndarray, limit: float
) -> float:
    """Return what to add to the prices of some finest clusters so that they carry the limit."""
    scores = costs + prices
    margins = scores[:, ~inside].min(1, initial=np.inf) - scores[:, inside].min(1)
    members = np.flatnonzero(margins > 0)
    margins = margins[members]
    # The heaviest point stays: wherever it went would be overfull instead.
    margins = np.minimum(margins, margins[loads[members].argmax()])
    order = np.argsort(-margins, kind="stable")
    within = int(np.searchsorted(loads[members[order]].cumsum(), limit, side="right"))
    kept = max(within, int((margins == margins.max()).sum()))
    return float(margins[order[kept - 1 : kept + 1]].mean()) if kept < len(members) else 0.0
