"""A tree of interest clusters, and the clusters of items in it.

An item belongs to the cluster of the finest level with the least ``||x - site||^2 + price``, and to
the clusters above that one. So the clusters of an item are a pure function of its embedding: items
that were not in the fit are assigned by the same rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.clustering.embedding_arrays import rounded_unit_rows
from models.clustering.power_diagram import nearest

_MOST = 1.5  # times the mean traffic of the level, where no single item is heavier


@dataclass(frozen=True)
class ClusterTree:
    """Clusters of every level, coarsest first."""

    sites: np.ndarray  # [finest, d] float32, in the space of L2-normalised embeddings
    prices: np.ndarray  # [finest] float32, in squared distance
    # Per level [n_level] int32: ids of the level above, -1 at level 0. After a fit from scratch
    # they never fall.
    parents: tuple[np.ndarray, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of clusters per level."""
        return tuple(map(len, self.parents))

    @property
    def ancestors(self) -> np.ndarray:
        """Cluster of every level that holds each finest one: [levels, finest] int32."""
        return ancestors_of(self.parents)


def ancestors_of(parents: Sequence[np.ndarray]) -> np.ndarray:
    """Return `ClusterTree.ancestors` for the parents of all levels."""
    rows = [np.arange(len(parents[-1]))]
    for of_level in reversed(parents[1:]):
        rows.append(of_level[rows[-1]])
    return np.stack(rows[::-1]).astype(np.int32)


def assign_clusters(tree: ClusterTree, embeddings: np.ndarray) -> np.ndarray:
    """Assign items [n, d] to one cluster per level: [n, levels] int32.

    The clusters of a row do not depend on the other rows.
    """
    embeddings = np.atleast_2d(embeddings)
    if embeddings.shape[1] != tree.sites.shape[1]:
        raise ValueError(
            f"embeddings have {embeddings.shape[1]} dimensions, the tree {tree.sites.shape[1]}: "
            "embed the items with the encoder that the tree was fitted on"
        )
    return tree.ancestors.T[nearest(rounded_unit_rows(embeddings), tree.sites, tree.prices)]


def most_traffic(loads: np.ndarray, size: int) -> float:
    """Return the largest allowed load of one of `size` clusters of items with loads [n]."""
    return float(max(_MOST * loads.sum() / size, loads.max()))


def traffic_balance(loads: np.ndarray) -> float:
    """Return the largest over the mean load [M] of the clusters of a level; 1 without traffic.

    Examples
    --------
    >>> traffic_balance(np.array([3.0, 1.0]))
    1.5
    """
    return float(loads.max() / loads.mean()) if loads.any() else 1.0
