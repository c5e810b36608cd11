"""How good clusters are: alike within, apart from each other, the same after another seed.

Cosines of unit vectors add up, so the mean cosine of an item to a whole cluster is one product with
the sum of the cluster's vectors: all measures are exact, in memory of items times clusters at most.
"""

from collections.abc import Iterator

import numpy as np
from sklearn.metrics import adjusted_rand_score

_ROWS = 8_192  # of items times clusters that are in memory at once
_TINY = 1e-12  # cosine distance that is noise


def coherence(
    embeddings: np.ndarray, cluster_ids: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the mean cosine of the items to the others of their cluster.

    ``sum_i w_i * sum_{j in c(i), j != i} w_j cos(i, j) / sum_{j in c(i), j != i} w_j / sum_i w_i``,
    over the items that share their cluster: the average linkage within clusters (Manning, Raghavan
    and Schütze, "Introduction to Information Retrieval", 2008, section 17.3).

    Parameters
    ----------
    embeddings
        [n, d] float, any length; directions count.
    cluster_ids
        [n] int, >= 0.
    weights
        [n], >= 0: traffic, say. 1 each by default.

    Returns
    -------
    float
        -1 to 1, higher is better; nan if no two items with a weight share a cluster.

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
    """Return the mean silhouette with the cosine distance.

    With a the mean distance of an item to the others of its cluster and b that to the items of the
    nearest other cluster, its silhouette is ``(b - a) / max(a, b)``, and 0 for one alone in its
    cluster (Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of
    cluster analysis", Journal of Computational and Applied Mathematics 20, 1987). Weights count in
    all three means.

    Parameters
    ----------
    embeddings, cluster_ids, weights
        As for `coherence`.

    Returns
    -------
    float
        -1 to 1, higher is better; nan if there are not two clusters with a weight.

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
        apart = np.isfinite(other) & (larger > _TINY)  # not of the only cluster, not all the same
        silhouette = np.divide(between - within, larger, out=np.zeros_like(larger), where=apart)
        silhouette[np.isneginf(other)] = np.nan
        found.append((weight, silhouette))
    return _mean(found)


def stability(one: np.ndarray, other: np.ndarray) -> float:
    """Return the adjusted Rand index of two clusterings of the same items.

    The share of the pairs of items on which both agree, together or apart, corrected for chance
    (Hubert and Arabie, "Comparing partitions", Journal of Classification 2, 1985).

    Parameters
    ----------
    one, other
        [n] int, with the clusters numbered in any way.

    Returns
    -------
    float
        1 for the same clusters, about 0 for independent ones.

    Examples
    --------
    >>> stability(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
    1.0
    """
    return float(adjusted_rand_score(one, other))


def _mean_cosines(
    embeddings: np.ndarray, cluster_ids: np.ndarray, weights: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of weights, mean cosines to the others of one's cluster, and to the nearest other.

    nan where an item has no others, -inf where there is no other cluster.
    """
    weights = np.ones(len(embeddings)) if weights is None else np.asarray(weights, np.float64)
    used = np.flatnonzero(weights > 0)
    weights = weights[used]
    _, cluster_ids = np.unique(np.asarray(cluster_ids)[used], return_inverse=True)
    rows = np.asarray(embeddings)
    totals = np.bincount(cluster_ids, weights)  # [k]
    counts = np.bincount(cluster_ids)
    sums = np.zeros((len(totals), rows.shape[1]))  # [k, d]
    for part in _parts(len(used)):
        np.add.at(sums, cluster_ids[part], _unit(rows[used[part]]) * weights[part, None])
    for part in _parts(len(used)):
        own, weight, batch = cluster_ids[part], weights[part], _unit(rows[used[part]])
        products = batch @ sums.T  # [batch, k]
        at = np.arange(len(own))
        alone = counts[own] == 1
        others = np.where(alone, np.nan, totals[own] - weight)
        itself = weight * (batch * batch).sum(1)
        within = (products[at, own] - itself) / others
        products /= totals
        products[at, own] = -np.inf
        yield weight, within, products.max(1)


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, count, _ROWS))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1, float64; rows of zeros stay."""
    wide = rows.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(float).tiny)


def _mean(parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Weighted mean of (weights, values) in which nan is left out."""
    if not parts:
        return float("nan")
    weights, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    there = ~np.isnan(values)
    return float(np.average(values[there], weights=weights[there])) if there.any() else float("nan")
