"""Coherence and separation of clusters, as cosines of embeddings.

Cosines of unit vectors add up, so the mean cosine of an item to a whole cluster is one product with
the sum of the cluster's vectors: both measures are exact, in memory of a batch of items times
clusters. (scikit-learn's silhouette takes all pairs of items, and no weights.)
"""

from typing import NamedTuple

import numpy as np

from models.common.unit_vectors import unit_rows

_ROWS = 8_192  # of items times clusters that are in memory at once
_TINY = 1e-12  # cosine distance that is noise


class Quality(NamedTuple):
    """Two measures of clusters, both from -1 to 1, higher is better."""

    coherence: float  # nan if no two items with a weight share a cluster
    separation: float  # nan without two clusters that have a weight


def cluster_quality(
    embeddings: np.ndarray, cluster_ids: np.ndarray, weights: np.ndarray | None = None
) -> Quality:
    """Measure clusters [n] int of embeddings [n, d] of any length, with weights [n] >= 0.

    Coherence is the mean cosine of the items to the other items of their cluster,
    ``sum_i w_i * sum_{j in c(i), j != i} w_j cos(i, j) / sum_{j in c(i), j != i} w_j / sum_i w_i``,
    over the items that share their cluster: the average linkage within clusters (Manning, Raghavan
    and Schütze, "Introduction to Information Retrieval", 2008, section 17.3).

    Separation is the mean silhouette with the cosine distance. With a the mean distance of an item
    to the others of its cluster and b that to the items of the nearest other cluster, its
    silhouette is ``(b - a) / max(a, b)``, and 0 for one alone in its cluster (Rousseeuw,
    "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis", Journal
    of Computational and Applied Mathematics 20, 1987). Weights count in all three means.

    Examples
    --------
    >>> items = np.array([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
    >>> np.round(cluster_quality(items, np.array([0, 0, 1, 1])), 3)
    array([0.995, 0.994])
    """
    weights = np.ones(len(embeddings)) if weights is None else np.asarray(weights, np.float64)
    used = np.flatnonzero(weights > 0)
    weights = weights[used]
    _, cluster_ids = np.unique(np.asarray(cluster_ids)[used], return_inverse=True)
    totals = np.bincount(cluster_ids, weights)  # [k]
    counts = np.bincount(cluster_ids)
    sums = np.zeros((len(totals), embeddings.shape[1]))  # [k, d]
    parts = [slice(start, start + _ROWS) for start in range(0, len(used), _ROWS)]
    for part in parts:
        batch = unit_rows(embeddings[used[part]].astype(np.float64))
        np.add.at(sums, cluster_ids[part], batch * weights[part, None])
    cosines, silhouettes = np.empty(len(used)), np.empty(len(used))
    for part in parts:
        own, weight = cluster_ids[part], weights[part]
        batch = unit_rows(embeddings[used[part]].astype(np.float64))
        products = batch @ sums.T  # [batch, k]
        at = np.arange(len(own))
        others = np.where(counts[own] == 1, np.nan, totals[own] - weight)
        cosines[part] = (products[at, own] - weight * (batch * batch).sum(1)) / others
        products /= totals
        products[at, own] = -np.inf
        silhouettes[part] = _silhouettes(1 - cosines[part], 1 - products.max(1))
    return Quality(_mean(cosines, weights), _mean(silhouettes, weights))


def _silhouettes(within: np.ndarray, between: np.ndarray) -> np.ndarray:
    """Return (b - a) / max(a, b); nan where b is infinite, without another cluster."""
    larger = np.maximum(within, between)
    apart = np.isfinite(between) & (larger > _TINY)  # not all the same
    result = np.divide(between - within, larger, out=np.zeros_like(larger), where=apart)
    result[np.isinf(between)] = np.nan
    return result


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the weighted mean of the values without the nan."""
    there = ~np.isnan(values)
    return float(np.average(values[there], weights=weights[there])) if there.any() else float("nan")
