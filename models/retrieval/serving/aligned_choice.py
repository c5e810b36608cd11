"""Chooses the next new interest by the aligned score: see `models.interests.alignment`."""

import tensorflow as tf

from models.retrieval.serving.pair_choice import Choice, first, newest_pair, recent_pairs
from models.retrieval.serving.pooled_choice import log_odds_sums, mean_log_odds


def table_part(
    last: tf.Tensor, novel: tf.Tensor, log_odds: tf.Tensor, most: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the pooled log odds of all clusters [batch, M], 0 for those that no pair lists.

    Also returns whether each cluster [batch, M] is a candidate: one of the `most` clusters, new to
    the user, with the largest pooled log odds. The inputs are as in `pooled`.
    """
    pairs = recent_pairs(last)
    total = log_odds_sums(pairs, last.shape[1], novel, log_odds)
    fresh = tf.where(last < 0, total, 0)
    least = tf.math.top_k(fresh, min(most, last.shape[1])).values[:, -1:]
    return tf.cast(mean_log_odds(pairs, total), tf.float32), (fresh > 0) & (fresh >= least)


def aligned(last: tf.Tensor, parts: tf.Tensor, able: tf.Tensor, weights: tf.Tensor) -> Choice:
    """Choose the cluster with the highest score among those that are `able` [batch, M].

    `last` [batch, M] is from `last_engagements`, `parts` [batch, M, PARTS], `weights` [PARTS].
    Equal scores are in the order of ids. In the result, c1 and c2 are the newest pair, probability
    is that of the softmax of the scores, and propensity is 1.
    """
    none = parts.dtype.min
    score = tf.where(able, tf.reduce_sum(parts * weights, axis=2), none)
    best = tf.reduce_max(score, axis=1, keepdims=True)
    chosen = first(able & (score == best))
    found = chosen < last.shape[1]
    share = tf.nn.softmax(score)
    pairs = recent_pairs(last)
    at = newest_pair(pairs.c2)
    c1, c2 = (tf.gather(one, at, batch_dims=1) for one in (pairs.c1, pairs.c2))
    probability = tf.gather(share, tf.where(found, chosen, 0), batch_dims=1)
    return Choice(
        c1=c1,
        c2=c2,
        novel=tf.where(found, chosen, -1),
        probability=tf.where(found, probability, 0),
        propensity=tf.ones_like(probability),
    )
