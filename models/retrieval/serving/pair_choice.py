"""From what a user knows to the pair (c1, c2) of interests whose next interest is recommended.

A user's interests are the clusters of the history, the latest engagement first: rank 0 is the
newest. Every two of the most recent ones are a pair that the novelty table can be asked about, and
the *answer* of a pair is the first cluster of its row that the user does not know. Two policies
choose among the pairs that have an answer (`pooled_choice` asks all of them):

- `most_recent` takes the first pair in an order in which all pairs of the r newest interests come
  before any with an older one, so that it is the newest two wherever they have an answer;
- `sampled` draws a pair, the likelier the newer its interests are, and says with which
  probability it came to its answer: what a reader of an experiment divides by.

A user with a single interest c has the one pair (c, c). All are functions of tensors, row by row:
what a row gets does not depend on the batch around it.
"""

from typing import NamedTuple

import tensorflow as tf

from models.interests.recent_pairs import RECENT, pair_ranks, pair_weights

_HASHES = 1 << 32


class RecentPairs(NamedTuple):
    """The pairs of each user, the most recent first; all [batch, pairs].

    Attributes
    ----------
    c1, c2
        int32, the older and the newer interest; -1 where the user has no such pair.
    weight
        int64, how often `sampled` draws the pair; 0 where the user has no such pair.
    """

    c1: tf.Tensor
    c2: tf.Tensor
    weight: tf.Tensor


class Pairs(NamedTuple):
    """The pairs of each user and what the novelty table answers to them; all [batch, pairs].

    Attributes
    ----------
    c1, c2
        int32, the older and the newer interest.
    novel
        int32, the answer, -1 where there is none.
    probability
        float32 of the answer in the row of its pair, 0 where there is none.
    weight
        int64, how often `sampled` draws the pair; 0 where the user has no such pair or it has no
        answer.
    """

    c1: tf.Tensor
    c2: tf.Tensor
    novel: tf.Tensor
    probability: tf.Tensor
    weight: tf.Tensor


class Choice(NamedTuple):
    """The pair of each user; all [batch].

    Attributes
    ----------
    c1, c2, novel, probability
        As of `Pairs`. Without any answer the newest pair (without a known interest -1, -1), with
        novel -1 and probability 0.
    propensity
        float32, with which probability the policy comes to this `novel`; 1 where it is -1.
    """

    c1: tf.Tensor
    c2: tf.Tensor
    novel: tf.Tensor
    probability: tf.Tensor
    propensity: tf.Tensor


def last_engagements(clusters: tf.Tensor, size: int) -> tf.Tensor:
    """When each user last engaged with each cluster.

    Parameters
    ----------
    clusters
        [batch, L] int32 cluster of each item of the history, oldest first, -1 where unknown.
    size
        Clusters there are, M.

    Returns
    -------
    tf.Tensor
        [batch, M] int32 place in the history; negative for clusters the user does not know.
    """
    rows, length = tf.unstack(tf.shape(clusters))
    segment = tf.where(clusters < 0, -1, tf.range(rows)[:, None] * size + clusters)
    place = tf.broadcast_to(tf.range(length), [rows, length])
    last = tf.math.unsorted_segment_max(place, segment, rows * size)  # drops segments below 0
    return tf.reshape(last, [rows, size])


def recent_pairs(last: tf.Tensor) -> RecentPairs:
    """Return the pairs of the newest interests of users, from `last_engagements` [batch, M]."""
    recent = min(RECENT, last.shape[1])
    # Places in a history are distinct, so that no tie is broken here.
    newest = tf.math.top_k(last, recent)  # [batch, recent]
    known = tf.reduce_sum(tf.cast(newest.values >= 0, tf.int32), axis=1)  # [batch]
    older, newer = pair_ranks(recent).T
    weight = tf.gather(tf.constant(pair_weights(recent)), known)
    c1, c2 = (
        tf.where(weight > 0, tf.gather(newest.indices, rank, axis=1), -1) for rank in (older, newer)
    )
    return RecentPairs(c1, c2, weight)


def answered_pairs(
    last: tf.Tensor, novel: tf.Tensor, probability: tf.Tensor, has_items: tf.Tensor
) -> Pairs:
    """Ask the novelty table about the pairs of every user.

    The answer of a pair is the first cluster of its row that is unknown to the user and has items
    to recommend. Where no pair of the user has such a one, clusters without items count too.

    Parameters
    ----------
    last
        [batch, M], of `last_engagements`.
    novel, probability
        [M, M, n], the novelty table: clusters after (c1, c2), best first, -1 pads.
    has_items
        [M] bool, whether a cluster has items to recommend. Nothing of a cluster that the user does
        not know can be in the history, so all of them are left.

    Returns
    -------
    Pairs
        The most recent pair first.
    """
    n = novel.shape[2]
    c1, c2, weight = recent_pairs(last)
    has = weight > 0
    pair = tf.maximum(tf.stack([c1, c2], axis=-1), 0)
    row = tf.gather_nd(novel, pair)  # [batch, pairs, n]
    asked = tf.maximum(row, 0)
    fresh = tf.gather(last < 0, asked, batch_dims=1) & (row >= 0) & has[..., None]
    full = fresh & tf.gather(has_items, asked)
    usable = tf.where(tf.reduce_any(full, axis=[1, 2], keepdims=True), full, fresh)
    # Argmax promises nothing about ties, so the first is found as the least index.
    first = tf.reduce_min(tf.where(usable, tf.range(n), n), axis=-1)  # [batch, pairs]
    found = first < n
    answer = tf.concat([pair, tf.minimum(first, n - 1)[..., None]], axis=-1)
    return Pairs(
        c1=c1,
        c2=c2,
        novel=tf.where(found, tf.gather_nd(novel, answer), -1),
        probability=tf.where(found, tf.gather_nd(probability, answer), 0.0),
        weight=tf.where(found, weight, 0),
    )


def most_recent(pairs: Pairs) -> Choice:
    """Choose the most recent pair that has an answer, for certain."""
    return _choose(pairs, pairs.weight > 0)


def sampled(pairs: Pairs, seed: tf.Tensor) -> Choice:
    """Draw one of the pairs that have an answer.

    Parameters
    ----------
    pairs
        Of `answered_pairs`.
    seed
        [batch] int64: the same one draws the same pair of the same pairs.
    """
    ends = tf.cumsum(pairs.weight, axis=1)  # [batch, pairs]
    total = ends[:, -1]
    # A hash that TensorFlow promises never to change; times a weight it stays within 63 bits.
    drawn = tf.strings.to_hash_bucket_fast(tf.strings.as_string(seed), _HASHES)  # [batch]
    at = drawn * total // _HASHES  # 0 <= at < total
    choice = _choose(pairs, ends > at[:, None])
    same = tf.where(pairs.novel == choice.novel[:, None], pairs.weight, 0)
    share = tf.cast(tf.reduce_sum(same, axis=1) / tf.maximum(total, 1), tf.float32)
    return choice._replace(propensity=tf.where(choice.novel < 0, 1.0, share))


def newest_pair(c2: tf.Tensor) -> tf.Tensor:
    """Return which pair of `RecentPairs` is the newest of each user, the last if there is none."""
    return tf.minimum(first(c2 >= 0), c2.shape[1] - 1)


def first(mask: tf.Tensor) -> tf.Tensor:
    """Return the first column that is true in each row of a mask [batch, n]; n where none is.

    Argmax promises nothing about ties.
    """
    count = mask.shape[1]
    return tf.reduce_min(tf.where(mask, tf.range(count), count), axis=1)


def _choose(pairs: Pairs, able: tf.Tensor) -> Choice:
    """Choose the first pair that is able [batch, pairs]; the newest one where none is."""
    first_able = first(able)
    index = tf.where(first_able < able.shape[1], first_able, newest_pair(pairs.c2))  # [batch]
    c1, c2, novel, probability = (
        tf.gather(values, index, batch_dims=1)
        for values in (pairs.c1, pairs.c2, pairs.novel, pairs.probability)
    )
    return Choice(c1, c2, novel, probability, tf.ones_like(probability))
