"""Cohesion and separation of clusters, as cosines of embeddings.

Cosines of unit vectors add up, so the mean cosine of an item to a whole cluster is one product with
the sum of the cluster's vectors: both measures are exact, in memory of a batch of items times
clusters. (scikit-learn's silhouette takes no weights, and all pairs of items.)
"""

from collections.abc import Iterator

import numpy as np

from models.common.unit_vectors import unit_rows

_ROWS = 8_192  # of items times clusters that are in memory at once
_TINY = 1e-12  # cosine distance that is noise


def coherence(
    embeddings: np.ndarray, cluster_ids: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the mean cosine of the items to the other items of their cluster.

    ``sum_i w_i * sum_{j in c(i), j != i} w_j cos(i, j) / sum_{j in c(i), j != i} w_j / sum_i w_i``,
    over the items that share their cluster: the average linkage within clusters (Manning, Raghavan
    and Schütze, "Introduction to Information Retrieval", 2008, section 17.3). From -1 to 1, higher
    is better; nan if no two items with a weight share a cluster.

    Parameters
    ----------
    embeddings
        [n, d] of any length; only directions count.
    cluster_ids
        [n] int, >= 0.
    weights
        [n] >= 0, such as traffic; 1 each by default.

    Examples
    --------
    >>> round(coherence(np.array([[1, 0], [1, 0], [1, 1], [0, 1]]), np.array([0, 0, 1, 1])), 3)
    0.854
    """
    found = [(weight, own) for weight, own, _ in _mean_cosines(embeddings, cluster_ids, weights)]
    return _mean(found)


def separation(
    embeddings: np.ndarray, cluster_ids: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the mean silhouette with the cosine distance; parameters as in `coherence`.

    With a the mean distance of an item to the others of its cluster and b that to the items of the
    nearest other cluster, its silhouette is ``(b - a) / max(a, b)``, and 0 for one alone in its
    cluster (Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of
    cluster analysis", Journal of Computational and Applied Mathematics 20, 1987). Weights count in
    all three means. From -1 to 1, higher is better; nan without two clusters that have a weight.

    Examples
    --------
    >>> items = np.array([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
    >>> round(separation(items, np.array([0, 0, 1, 1])), 3)
    0.994
    >>> round(separation(items, np.array([0, 1, 0, 1])), 3)
    -0.497
    """
    found = []
    for weight, own, other in _mean_cosines(embeddings, cluster_ids, weights):
        within, between = 1 - own, 1 - other
        larger = np.maximum(within, between)
        apart = np.isfinite(other) & (larger > _TINY)  # not the only cluster, not all the same
        silhouette = np.divide(between - within, larger, out=np.zeros_like(larger), where=apart)
        silhouette[np.isneginf(other)] = np.nan
        found.append((weight, silhouette))
    return _mean(found)


def _mean_cosines(
    embeddings: np.ndarray, cluster_ids: np.ndarray, weights: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield weights, mean cosines to the own cluster (others only), and to the nearest other one.

    nan for an item that is alone in its cluster, -inf without another cluster.
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
    for part in parts:
        own, weight = cluster_ids[part], weights[part]
        batch = unit_rows(embeddings[used[part]].astype(np.float64))
        products = batch @ sums.T  # [batch, k]
        at = np.arange(len(own))
        others = np.where(counts[own] == 1, np.nan, totals[own] - weight)
        itself = weight * (batch * batch).sum(1)
        within = (products[at, own] - itself) / others
        products /= totals
        products[at, own] = -np.inf
        yield weight, within, products.max(1)


def _mean(parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the weighted mean of (weights, values) without the nan."""
    if not parts:
        return float("nan")
    weights, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    there = ~np.isnan(values)
    return float(np.average(values[there], weights=weights[there])) if there.any() else float("nan")
