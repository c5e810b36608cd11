"""Matches the clusters of two runs, so that a cluster keeps its id."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from models.clustering.cluster_tree import ClusterTree

_SAME = 0.8  # Jaccard index of an unchanged cluster, at least


@dataclass(frozen=True)
class Match:
    """The clusters of one level, matched to those of an earlier run."""

    old_ids: np.ndarray  # [count] int64, of the match of each new cluster; a permutation
    unchanged: np.ndarray  # [count] bool, whether a new cluster is as good as its match


def match_clusters(old: np.ndarray, new: np.ndarray, count: int) -> Match:
    """Match clusters one to one with the largest sum of Jaccard indices.

    `old` and `new` are the clusters [n], 0 to count - 1, of the items in both runs. The index of
    two clusters is the number of items in both over that of items in either (Jaccard, 1912); the
    matching is Kuhn's Hungarian method (Naval Research Logistics Quarterly 2, 1955).

    Examples
    --------
    >>> match_clusters(np.array([0, 0, 1, 1, 2]), np.array([2, 2, 0, 0, 1]), 3).old_ids
    array([1, 2, 0])
    """
    both = np.bincount(new * count + old, minlength=count * count).reshape(count, count)
    either = both.sum(1)[:, None] + both.sum(0)[None, :] - both
    jaccard = both / np.maximum(either, 1)
    _, old_ids = linear_sum_assignment(jaccard, maximize=True)
    return Match(old_ids, jaccard[np.arange(count), old_ids] >= _SAME)


def renumbered(tree: ClusterTree, matches: Sequence[Match]) -> ClusterTree:
    """Give each cluster the id of its match, level by level."""
    parents, above = [], None
    for of_level, match in zip(tree.parents, matches, strict=True):
        order = np.argsort(match.old_ids)
        parents.append(of_level[order] if above is None else above[of_level[order]])
        above = match.old_ids.astype(np.int32)
    return replace(tree, sites=tree.sites[order], prices=tree.prices[order], parents=tuple(parents))
