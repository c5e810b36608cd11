"""The clusters that a fit starts with: splits along principal directions, or an earlier fit.

Each split is at the mean along the principal direction, of the part with the most scatter (Su and
Dy, "In search of deterministic methods for initializing k-means and Gaussian mixture clustering",
Intelligent Data Analysis 11, 2007). Nothing is random.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse

from models.clustering.balancing import Cap, apportion
from models.clustering.embedding_arrays import batches, label_means, label_sums, scatter
from models.clustering.power_diagram import nearest
from models.clustering.refinement import Points, refined

CAPACITY = 1.42  # times the mean load, at the fit; an excess within the tolerance is accepted
_ROUNDS = 12  # of centroid updates per split
_NOISE_DECIMALS = 9  # of an offset along a direction
_POWERS = 40


def split_tree(
    work: Points, loads: np.ndarray, shares: list[np.ndarray], sizes: Sequence[int]
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Split points top-down into finest clusters [m] and the parents of each level.

    `loads` [m] are traffic, and `shares` those of each level with heavy points capped at the share
    of a cluster.
    """
    nodes = np.zeros(len(work.points), np.int64)  # [m], cluster of each point at the level above
    parents: list[np.ndarray] = []
    for level, size in enumerate(sizes):
        below = min(level + 1, len(sizes) - 1)
        share, share_below = shares[level], shares[below]
        points_of = np.bincount(nodes)
        node_loads = np.bincount(nodes, share)
        children = apportion(size, node_loads, np.ones_like(points_of), points_of)
        grandchildren = apportion(
            sizes[below], np.bincount(nodes, share_below), children, points_of
        )
        members = np.split(np.argsort(nodes, kind="stable"), np.cumsum(points_of)[:-1])
        first_ids = np.cumsum(children) - children
        for node, of_node in enumerate(members):
            count = int(children[node])
            # The load of a child must fit into the clusters below it too.
            room = grandchildren[node] // count + (np.arange(count) < grandchildren[node] % count)
            capacities = CAPACITY * np.minimum(
                share.sum() / size, room * share_below.sum() / sizes[below]
            )
            capacities *= max(1.0, 1.05 * node_loads[node] / capacities.sum())
            heavy = np.flatnonzero((loads > share)[of_node])
            part = Points(work.points[of_node], work.masses[of_node], heavy)
            labels = _split(part, share[of_node], capacities) if count > 1 else 0
            nodes[of_node] = first_ids[node] + labels
        above = np.repeat(np.arange(len(children)), children) if parents else np.full(size, -1)
        parents.append(above.astype(np.int32))
    return nodes, tuple(parents)


def _split(part: Points, shares: np.ndarray, capacities: np.ndarray) -> np.ndarray:
    """Split the points of a node into clusters, none of them empty: ids from 0 [k]."""
    count, heavy = len(capacities), part.heavy
    if len(heavy) >= count:  # too many for one cluster each
        part, heavy = replace(part, heavy=heavy[:0]), heavy[:0]
    others = np.setdiff1d(np.arange(len(shares)), heavy)
    labels = np.empty(len(shares), np.int64)
    labels[heavy] = np.arange(len(heavy))
    labels[others] = len(heavy) + principal_parts(
        part.points[others], part.masses[others], count - len(heavy)
    )
    cap = Cap(shares, np.arange(count), capacities)
    tree = refined(part, labels, (np.full(count, -1, np.int32),), [cap], _ROUNDS)
    labels = nearest(part.points, tree.sites, tree.prices)
    alone = labels[heavy]
    if len(set(alone.tolist())) == len(heavy):  # no other point may join their clusters
        prices = tree.prices.copy()
        prices[alone] = np.inf
        labels[others] = nearest(part.points[others], tree.sites, prices)
    return labels


def labels_of_points(
    work: Points, start: np.ndarray, count: int, point_of: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Turn the earlier clusters of items [n] (-1 for none) into clusters of points [m].

    A point has the cluster of most of its items, else that with the nearest mean; an empty cluster
    gets the point that is farthest from its mean. `point_of` and `times` [n] are of the items.
    """
    known = start >= 0
    votes = scipy.sparse.csr_array(
        (times[known], (point_of[known], start[known])),
        shape=(len(work.points), count),
    )
    labels = np.asarray(votes.argmax(1)).ravel()
    voted = np.asarray(votes.sum(1)).ravel() > 0
    means = label_means(work.points[voted], work.masses[voted], labels[voted], count)
    there = np.unique(labels[voted])
    labels[~voted] = there[nearest(work.points[~voted], means[there], np.zeros(len(there)))]
    for cluster in np.setdiff1d(np.arange(count), there):
        several = np.flatnonzero(np.bincount(labels, minlength=count)[labels] > 1)
        labels[several[((work.points - means[labels])[several] ** 2).sum(1).argmax()]] = cluster
    return labels


def principal_parts(points: np.ndarray, masses: np.ndarray, count: int) -> np.ndarray:
    """Halve, along its principal direction, the part with the most scatter until there are `count`.

    For distinct points [m, d], at least `count`, with masses [m] > 0. Returns ids of parts [m]
    int64; none is empty.
    """
    parts = [np.arange(len(points))]
    widths = [1.0]
    while len(parts) < count:
        widest = int(np.argmax(widths))
        part = parts[widest]
        mean, covariance = _moments(points[part], masses[part])
        direction = _principal_direction(covariance)
        # The sign of the direction, and so the order of the parts, follows its largest component.
        offsets = np.concatenate(
            [(points[part[rows]] - mean) @ direction for rows in batches(len(part), len(mean))]
        )
        sign = np.sign(direction[np.abs(direction).argmax()])
        side = offsets.round(_NOISE_DECIMALS) * sign > 0
        if side.all() or not side.any():  # equal up to rounding: any halves serve
            side = np.arange(len(part)) < len(part) // 2
        halves = [part[side], part[~side]]
        parts[widest : widest + 1] = halves
        widths[widest : widest + 1] = [_scatter(points[half], masses[half]) for half in halves]
    labels = np.empty(len(points), np.int64)
    for number, part in enumerate(parts):
        labels[part] = number
    return labels


def _principal_direction(covariance: np.ndarray) -> np.ndarray:
    """Approximate the first eigenvector [d] by power iteration: any wide direction serves."""
    direction = covariance[np.diagonal(covariance).argmax()]
    for _ in range(_POWERS):
        direction = covariance @ direction
        direction /= max(np.linalg.norm(direction), np.finfo(np.float64).tiny)
    return direction


def _mean(points: np.ndarray, masses: np.ndarray) -> np.ndarray:
    return label_sums(points, masses, np.zeros(len(points), np.int64), 1)[0] / masses.sum()


def _moments(points: np.ndarray, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean [d] and the scatter matrix [d, d] float64."""
    mean = _mean(points, masses)
    matrix = np.zeros((points.shape[1], points.shape[1]))
    for rows in batches(*points.shape):
        offsets = (points[rows] - mean) * np.sqrt(masses[rows])[:, None]
        matrix += offsets.T @ offsets
    return mean, matrix


def _scatter(points: np.ndarray, masses: np.ndarray) -> float:
    """Return the sum of squared distances to the mean, exactly 0 for a single point."""
    if len(points) == 1:
        return 0.0
    centre = _mean(points, masses)[None]
    return scatter(points, masses, np.zeros(len(points), np.int64), centre)
