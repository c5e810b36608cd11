"""The score of a whole cluster for a query: the logarithm of the sum of exp(score) of its items.

It is, up to a constant of the query, the log probability that the next item is of the cluster. The
exact sum reads all items. This approximation reads a mean and a covariance for each cluster, as
many numbers for ten thousand items as for a billion. With d = query - origin, and expectations over
the items of a cluster in proportion to exp(origin . item),

    log sum_i exp(query . item_i) = log sum_i exp(origin . item_i) + log E[exp(d . item)]
                                  ~ log sum_i exp(origin . item_i) + d . mean + d' covariance d / 2

which is exact for items with a normal distribution. With the query of a user without a history as
the origin, items count in it by their popularity.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class ClusterMoments(NamedTuple):
    """What `cluster_scores` reads of M clusters."""

    level: tf.Tensor  # [M] log sum exp(origin . item), -inf for a cluster without items
    mean: tf.Tensor  # [M, d]
    covariance: tf.Tensor  # [d, M * d], half of it: row by row of all clusters
    origin: tf.Tensor  # [d]


def cluster_moments(
    vectors: NDArray[np.float32], starts: NDArray[np.int32], origin: NDArray[np.float32]
) -> ClusterMoments:
    """Return the moments of items [n, d] of which those of cluster c begin at starts[c]."""
    clusters, d = len(starts) - 1, vectors.shape[1]
    level = cluster_log_sums(vectors @ origin, starts)
    mean, covariance = np.zeros([clusters, d]), np.zeros([clusters, d, d])
    for cluster in np.flatnonzero(np.diff(starts)):
        items = vectors[starts[cluster] : starts[cluster + 1]].astype(np.float64)
        share = np.exp(items @ origin - level[cluster])
        mean[cluster] = share @ items
        far = items - mean[cluster]
        covariance[cluster] = (far * share[:, None]).T @ far / 2
    by_row = covariance.transpose(1, 0, 2).reshape(d, -1)
    return ClusterMoments(*(tf.constant(one, tf.float32) for one in (level, mean, by_row, origin)))


def cluster_log_sums(scores: NDArray[np.float32], starts: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return log sum exp of the scores of each cluster [M], those of c from starts[c] on."""
    sums = np.full(len(starts) - 1, -np.inf)
    full = np.flatnonzero(np.diff(starts))
    used = scores[: starts[-1]].astype(np.float64)
    if len(full):
        sums[full] = np.logaddexp.reduceat(used, starts[full])
    return sums


def cluster_scores(moments: ClusterMoments, queries: tf.Tensor) -> tf.Tensor:
    """Return the scores [batch, M] of clusters for queries [batch, d]."""
    far = queries - moments.origin
    batch, d = tf.unstack(tf.shape(far))
    turned = tf.reshape(tf.matmul(far, moments.covariance), [batch, -1, d])  # [batch, M, d]
    return moments.level + tf.reduce_sum((turned + moments.mean) * far[:, None], axis=2)
