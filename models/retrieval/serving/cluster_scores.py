"""The score of a whole cluster for a query: the logarithm of the sum of exp(score) of its items.

It is, up to a constant of the query, the log probability that the next item is of the cluster. The
exact sum reads all items. Here a cluster has representatives: its most popular items, which have
most of the sum, and the mean of all others, in which items count by their popularity. With p the
log popularity of the others, the representative r of them has the score

    log sum_i exp(p_i) + E[query . item_i - p_i] ~ log sum_i exp(query . item_i)

for i drawn in proportion to exp(p_i). So as many numbers are read for a billion items as for ten
thousand, and clusters of few items are exact.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

# Of each cluster. Of 8, 32 and 64, on the valid users of ml-latest-small with 48 clusters, the
# recall@5 of the aligned choice is .417, .425 and .428; with all items it is .426.
_POPULAR = 32


class Representatives(NamedTuple):
    """What `cluster_scores` reads of M clusters, n representatives each."""

    vectors: tf.Tensor  # [M * n, d]
    offsets: tf.Tensor  # [M * n] added to the scores; the least number for none


def cluster_representatives(
    vectors: NDArray[np.float32], starts: NDArray[np.int32]
) -> Representatives:
    """Return the representatives of items [n, d] of which those of cluster c begin at starts[c].

    The last number of a vector is the log popularity of the item.
    """
    clusters, d = len(starts) - 1, vectors.shape[1]
    means = np.zeros([clusters, _POPULAR + 1, d])
    offsets = np.full([clusters, _POPULAR + 1], np.finfo(np.float32).min)
    for cluster in range(clusters):
        items = vectors[starts[cluster] : starts[cluster + 1]].astype(np.float64)
        order = np.argsort(-items[:, -1], kind="stable")
        popular, others = items[order[:_POPULAR]], items[order[_POPULAR:]]
        means[cluster, : len(popular)], offsets[cluster, : len(popular)] = popular, 0
        if len(others):
            p = others[:, -1]
            total = np.logaddexp.reduce(p)
            share = np.exp(p - total)
            means[cluster, -1], offsets[cluster, -1] = share @ others, total - share @ p
    flat = means.reshape(-1, d), offsets.ravel()
    return Representatives(*(tf.constant(one, tf.float32) for one in flat))


def cluster_scores(representatives: Representatives, queries: tf.Tensor) -> tf.Tensor:
    """Return the scores [batch, M] of clusters for queries [batch, d]."""
    scores = tf.matmul(queries, representatives.vectors, transpose_b=True) + representatives.offsets
    return tf.reduce_logsumexp(tf.reshape(scores, [tf.shape(queries)[0], -1, _POPULAR + 1]), axis=2)


def cluster_log_sums(scores: NDArray[np.float32], starts: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return log sum exp of the scores of each cluster [M], those of c from starts[c] on."""
    sums = np.full(len(starts) - 1, -np.inf)
    full = np.flatnonzero(np.diff(starts))
    used = scores[: starts[-1]].astype(np.float64)
    if len(full):
        sums[full] = np.logaddexp.reduceat(used, starts[full])
    return sums
