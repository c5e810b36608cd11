"""Chooses the next new interest of a user by all recent pairs together.

The log odds that the novelty table gives to the candidates of all recent pairs are pooled, each
pair with the weight with which `sampled` of `pair_choice` draws it: see `log_odds`.
"""

import tensorflow as tf

from models.interests.log_odds import UNIT
from models.retrieval.serving.pair_choice import (
    Choice,
    RecentPairs,
    first,
    newest_pair,
    recent_pairs,
)


def pooled(
    last: tf.Tensor,
    has_items: tf.Tensor,
    novel: tf.Tensor,
    log_odds: tf.Tensor,
    allowed: tf.Tensor,
) -> Choice:
    """Choose the listed cluster, new to the user, with the largest pooled log odds.

    Clusters with items to recommend go first; equal log odds are in the order of ids. `last`
    [batch, M] is from `last_engagements`; `has_items` [M] says which clusters have items, `allowed`
    [M] which may be recommended; `novel` and `log_odds` [M, M, n] are those of the novelty table.
    In the result, c1 and c2 are the newest pair, probability is that of the pooled distribution
    among the allowed clusters that are new to the user, and propensity is 1.
    """
    pairs = recent_pairs(last)
    size = last.shape[1]
    total = log_odds_sums(pairs, size, novel, log_odds)

    fresh = last < 0
    listed = fresh & (total > 0)
    full = listed & has_items
    usable = tf.where(tf.reduce_any(full, axis=1, keepdims=True), full, listed)
    best = tf.reduce_max(tf.where(usable, total, 0), axis=1, keepdims=True)
    chosen = first(usable & (total == best))
    found = chosen < size

    odds = tf.where(fresh & allowed, tf.exp(mean_log_odds(pairs, total)), 0)
    chosen = tf.minimum(chosen, size - 1)
    probability = tf.math.divide_no_nan(
        tf.gather(odds, chosen, batch_dims=1), tf.reduce_sum(odds, axis=1)
    )
    c1, c2 = (tf.gather(one, newest_pair(pairs.c2), batch_dims=1) for one in (pairs.c1, pairs.c2))
    return Choice(
        c1=c1,
        c2=c2,
        novel=tf.where(found, chosen, -1),
        probability=tf.where(found, tf.cast(probability, tf.float32), 0),
        propensity=tf.ones_like(c1, tf.float32),
    )


def log_odds_sums(
    pairs: RecentPairs, size: int, novel: tf.Tensor, log_odds: tf.Tensor
) -> tf.Tensor:
    """Return the weighted sums of the log odds of all clusters, [batch, M = size] int64.

    They are whole numbers, exact in any order; 0 for a cluster that no pair lists.
    """
    batch = tf.shape(pairs.c1)[0]
    at = tf.maximum(tf.stack([pairs.c1, pairs.c2], axis=-1), 0)
    row = tf.gather_nd(novel, at)  # [batch, pairs, n]
    weighted = tf.cast(tf.gather_nd(log_odds, at), tf.int64) * pairs.weight[..., None]
    user = tf.range(batch)[:, None, None]
    segment = tf.where(row < 0, -1, user * size + row)  # segments below 0 are dropped
    return tf.reshape(tf.math.unsorted_segment_sum(weighted, segment, batch * size), [batch, size])


def mean_log_odds(pairs: RecentPairs, total: tf.Tensor) -> tf.Tensor:
    """Return the mean log odds over pairs, [batch, M] float64, for sums of them."""
    weight = tf.maximum(tf.reduce_sum(pairs.weight, axis=1, keepdims=True), 1)
    return tf.cast(total, tf.float64) * UNIT / tf.cast(weight, tf.float64)
