"""Chooses the pair (c1, c2) of a user's interests whose next interest is recommended.

A user's interests are the clusters of the history, ranked by their latest engagement: rank 0 is the
newest. The `RECENT` newest ones form pairs, and the *answer* of a pair is its first candidate in
the novelty table that the user does not know. Two functions choose among the pairs with an answer
(`pooled_choice` uses all of them):

- `most_recent` takes the first pair in an order in which all pairs of the r newest interests come
  before any pair with an older one: the newest two, if they have an answer;
- `sampled` draws a pair, with higher weights for newer interests, and returns the probability of
  its answer: an analysis of an experiment divides by it.

A user with a single interest c has the one pair (c, c). All functions treat each row on its own:
the result for a row does not depend on the other rows of the batch.
"""

from typing import NamedTuple

import tensorflow as tf

from models.interests.recent_pairs import RECENT, pair_ranks, pair_weights

_HASHES = 1 << 32


class RecentPairs(NamedTuple):
    """The pairs of each user, the most recent first; all [batch, pairs]."""

    c1: tf.Tensor  # int32, the older interest; -1 if the user has no such pair
    c2: tf.Tensor  # int32, the newer interest; -1 if the user has no such pair
    weight: tf.Tensor  # int64, how often `sampled` draws the pair; 0 for no pair


class Pairs(NamedTuple):
    """The pairs of each user with their answers; all [batch, pairs]."""

    c1: tf.Tensor
    c2: tf.Tensor
    novel: tf.Tensor  # int32, the answer; -1 for none
    probability: tf.Tensor  # float32, of the answer after this pair; 0 for none
    weight: tf.Tensor  # int64, as of RecentPairs; 0 for pairs without an answer


class Choice(NamedTuple):
    """The chosen pair of each user and its answer; all [batch].

    A user without any answer has the newest pair (-1, -1 without a known interest), novel -1,
    probability 0 and propensity 1.
    """

    c1: tf.Tensor
    c2: tf.Tensor
    novel: tf.Tensor
    probability: tf.Tensor
    propensity: tf.Tensor  # float32, the probability that this choice has this `novel`


def last_engagements(clusters: tf.Tensor, size: int) -> tf.Tensor:
    """Return the position of each user's last engagement with each cluster, [batch, M] int32.

    `clusters` [batch, L] int32 are the clusters of the history's items, oldest first, -1 for
    unknown items. The position is negative for clusters that the user does not know.
    """
    rows, length = tf.unstack(tf.shape(clusters))
    segment = tf.where(clusters < 0, -1, tf.range(rows)[:, None] * size + clusters)
    position = tf.broadcast_to(tf.range(length), [rows, length])
    last = tf.math.unsorted_segment_max(position, segment, rows * size)  # drops segments below 0
    return tf.reshape(last, [rows, size])


def recent_pairs(last: tf.Tensor) -> RecentPairs:
    """Return the pairs of the newest interests of users, from `last_engagements` [batch, M]."""
    recent = min(RECENT, last.shape[1])
    # Positions in a history are distinct: there are no ties.
    newest = tf.math.top_k(last, recent)  # [batch, recent]
    known = tf.reduce_sum(tf.cast(newest.values >= 0, tf.int32), axis=1)  # [batch]
    older, newer = pair_ranks(recent).T
    weight = tf.gather(tf.constant(pair_weights(recent)), known)
    c1, c2 = (
        tf.where(weight > 0, tf.gather(newest.indices, rank, axis=1), -1) for rank in (older, newer)
    )
    return RecentPairs(c1, c2, weight)


def answered_pairs(
    last: tf.Tensor, has_items: tf.Tensor, novel: tf.Tensor, probability: tf.Tensor
) -> Pairs:
    """Look up the pairs of users in the novelty table.

    The answer of a pair is its first candidate that is unknown to the user and has items to
    recommend. If no pair of the user has such a candidate, candidates without items count too.
    `last` [batch, M] is from `last_engagements`, `has_items` [M] says which clusters have items to
    recommend, `novel` and `probability` [M, M, n] are those of `NoveltyTable`. No item of an
    unknown cluster can be in the history, so all its items are left.
    """
    n = novel.shape[2]
    c1, c2, weight = recent_pairs(last)
    pair = tf.maximum(tf.stack([c1, c2], axis=-1), 0)
    row = tf.gather_nd(novel, pair)  # [batch, pairs, n]
    asked = tf.maximum(row, 0)
    fresh = tf.gather(last < 0, asked, batch_dims=1) & (row >= 0) & (weight > 0)[..., None]
    full = fresh & tf.gather(has_items, asked)
    usable = tf.where(tf.reduce_any(full, axis=[1, 2], keepdims=True), full, fresh)
    rank = first(usable)  # [batch, pairs]
    found = rank < n
    answer = tf.concat([pair, tf.minimum(rank, n - 1)[..., None]], axis=-1)
    return Pairs(
        c1=c1,
        c2=c2,
        novel=tf.where(found, tf.gather_nd(novel, answer), -1),
        probability=tf.where(found, tf.gather_nd(probability, answer), 0.0),
        weight=tf.where(found, weight, 0),
    )


def most_recent(pairs: Pairs) -> Choice:
    """Choose the most recent pair that has an answer, with propensity 1."""
    return _choose(pairs, pairs.weight > 0)


def sampled(pairs: Pairs, seed: tf.Tensor) -> Choice:
    """Draw one of the pairs that have an answer; the draw depends on `seed` [batch] int64 alone."""
    ends = tf.cumsum(pairs.weight, axis=1)  # [batch, pairs]
    total = ends[:, -1]
    # TensorFlow promises never to change this hash; times a weight it stays within 63 bits.
    drawn = tf.strings.to_hash_bucket_fast(tf.strings.as_string(seed), _HASHES)  # [batch]
    at = drawn * total // _HASHES  # 0 <= at < total
    choice = _choose(pairs, ends > at[:, None])
    same = tf.where(pairs.novel == choice.novel[:, None], pairs.weight, 0)
    share = tf.cast(tf.reduce_sum(same, axis=1) / tf.maximum(total, 1), tf.float32)
    return choice._replace(propensity=tf.where(choice.novel < 0, 1.0, share))


def newest_pair(c2: tf.Tensor) -> tf.Tensor:
    """Return the column of each user's newest pair, the last column for users without pairs."""
    return tf.minimum(first(c2 >= 0), c2.shape[1] - 1)


def first(mask: tf.Tensor) -> tf.Tensor:
    """Return the first true index in the last axis of a mask [..., n]; n if there is none.

    Argmax promises nothing about ties.
    """
    count = mask.shape[-1]
    return tf.reduce_min(tf.where(mask, tf.range(count), count), axis=-1)


def _choose(pairs: Pairs, able: tf.Tensor) -> Choice:
    """Choose the first pair that is `able` [batch, pairs]; the newest pair if there is none."""
    first_able = first(able)
    index = tf.where(first_able < able.shape[1], first_able, newest_pair(pairs.c2))  # [batch]
    c1, c2, novel, probability = (
        tf.gather(values, index, batch_dims=1)
        for values in (pairs.c1, pairs.c2, pairs.novel, pairs.probability)
    )
    return Choice(c1, c2, novel, probability, tf.ones_like(probability))
