"""Exact top k among the candidates of a few clusters, as a layer in TFRS's hierarchy.

The index has *positions*: the candidates are sorted by cluster, in the given order within a
cluster; candidates without a cluster are last. So a cluster is one contiguous slice, and a query
reads only the slices of its clusters. The score is the same product as in brute force: query by
query, `tfrs.layers.factorized_top_k.BruteForce` gives the same bits.

A variable is first read whole, which copies nothing, and then gathered from: to gather from the
variable itself (`tf.gather(variable, ...)`) would make TensorFlow copy all of it at every later
read.
"""

import os
from typing import Any

# tensorflow-recommenders is written for Keras 2; TensorFlow picks its Keras when first imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

Queries = tuple[tf.Tensor, tf.Tensor]  # queries [batch, d], cluster ids [batch, C]
Best = tuple[tf.Tensor, tf.Tensor]  # scores and positions
_UNROLLED = 8  # clusters searched in a round of the loop, so that rounds cost less


class ClusterTopK(tfrs.layers.factorized_top_k.TopK):
    """Retrieves the k best candidates of each query's clusters, of M clusters 0 to M - 1.

    Unlike the other layers of TFRS it takes `queries` as a pair (queries, cluster_ids). Repeated
    cluster ids count once, unknown ids are ignored. If fewer than k candidates are left, the answer
    is filled up with score -inf and the identifier "" or -1. Equal scores are in the order in which
    the candidates were given. The layer is fast inside a `tf.function`; called eagerly, Python
    loops over queries and clusters.
    """

    def __init__(self, clusters: int, k: int = 10, name: str | None = None) -> None:
        super().__init__(k=k, name=name)
        if clusters < 1:
            raise ValueError(f"clusters is {clusters}: there must be at least one")
        if k < 1:
            raise ValueError(f"k is {k}: at least one candidate must be in an answer")
        self.clusters = clusters
        self.candidates: Any = None

    def index(
        self,
        candidates: tf.Tensor,
        identifiers: tf.Tensor | None = None,
        clusters: tf.Tensor | None = None,
    ) -> "ClusterTopK":
        """Build the index, in place of an earlier one.

        `candidates` are [n, d]; `identifiers` [n] are distinct strings or integers, by default 0 to
        n - 1; `clusters` [n] is the cluster of each candidate. A candidate of cluster -1 has a
        position, but is never in an answer.

        Raises ValueError if the lengths differ, an identifier repeats, or clusters are missing or
        not -1 to M - 1.
        """
        candidates = tf.convert_to_tensor(candidates, tf.float32)
        if len(candidates.shape) != 2 or not candidates.shape[0]:
            raise ValueError(
                f"candidates have shape {candidates.shape}: it must be [at least 1, d]"
            )
        count = candidates.shape[0]
        identifiers = tf.convert_to_tensor(tf.range(count) if identifiers is None else identifiers)
        if clusters is None:
            raise ValueError("clusters are missing: give the cluster of each candidate")
        of = np.asarray(clusters)
        if identifiers.shape != [count] or of.shape != (count,):
            raise ValueError(
                f"{count} candidates, identifiers {identifiers.shape} and clusters {of.shape}: "
                "there must be one of each for a candidate"
            )
        if not -1 <= np.min(of) <= np.max(of) < self.clusters:
            raise ValueError(
                f"clusters {np.min(of)} to {np.max(of)}: they must be -1 (none) to "
                f"{self.clusters - 1}"
            )
        if tf.unique(identifiers).y.shape[0] != count:
            raise ValueError("an identifier repeats: they must be distinct")

        of = np.where(of < 0, self.clusters, of)
        order = np.argsort(of, kind="stable").astype(np.int32)
        starts = np.searchsorted(of[order], np.arange(self.clusters + 1)).astype(np.int32)
        identifiers = tf.gather(identifiers, order)
        self.candidates = constant(tf.gather(candidates, order))  # [n, d], by position
        self.identifiers = constant(identifiers)  # [n], by position
        self.order = constant(order)  # [n], the given index of the candidate at each position
        self.starts = constant(starts)  # [M + 1]: cluster c begins at starts[c]
        self.position_of = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(identifiers, tf.range(count)), default_value=-1
        )
        return self

    def call(self, queries: Queries, k: int | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the scores and identifiers [batch, k] of the best candidates, best first."""
        return self.search(queries, None, k)

    def query_with_exclusions(
        self, queries: Queries, exclusions: tf.Tensor, k: int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Do as `call`, without the candidates with the identifiers `exclusions` [batch, L]."""
        self._check_index()
        return self.search(queries, self.position_of.lookup(exclusions), k)

    def search(
        self, queries: Queries, excluded: tf.Tensor | None, k: int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Do as `call`, without the candidates at positions `excluded` [batch, L], -1 for none."""
        self._check_index()
        scores, positions = top_positions(
            self.vectors(),
            self.starts.read_value(),
            self.order.read_value(),
            *queries,
            excluded,
            self._k if k is None else k,
        )
        none = tf.constant("" if self.identifiers.dtype == tf.string else -1)
        found = tf.gather(self.identifiers.read_value(), tf.maximum(positions, 0))
        return scores, tf.where(positions < 0, tf.cast(none, found.dtype), found)

    def vectors(self) -> tf.Tensor:
        """Return the vectors [n, d] by position, not copied."""
        return self.candidates.read_value()

    def is_exact(self) -> bool:
        """Say that the answers are those of brute force."""
        return True

    def _check_index(self) -> None:
        if self.candidates is None:
            raise ValueError("there is no index: call `index` first")


def top_positions(
    vectors: tf.Tensor,
    starts: tf.Tensor,
    order: tf.Tensor,
    queries: tf.Tensor,
    cluster_ids: tf.Tensor,
    excluded: tf.Tensor | None,
    k: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the scores and positions [batch, k] of the best candidates of each query's clusters.

    They are filled up with -inf and -1. `vectors`, `starts` and `order` are those of `ClusterTopK`;
    positions `excluded` [batch, L] outside the query's clusters are ignored. Clusters are searched
    a few at a time: memory holds their scores and all answers, [batch, C, k], and an answer does
    not depend on the other queries of the batch.
    """
    clusters = tf.shape(starts)[0] - 1
    asked = tf.where((cluster_ids >= 0) & (cluster_ids < clusters), cluster_ids, -1)
    alone = asked.shape[1] == 1
    if not alone:
        asked = distinct(asked)
    starts, ends = (
        tf.reshape(tf.gather(starts, tf.maximum(cluster, 0)), [-1])
        for cluster in (asked, asked + 1)
    )
    batch, width = tf.unstack(tf.shape(asked))
    # A task is a cluster of a query: its row, first position and size, [batch * C] each.
    tasks = tf.repeat(tf.range(batch), width), starts, ends - starts
    count = tf.shape(starts)[0]

    def best_of_some(row: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> Best:
        tasks = row.shape[0]
        begins = tf.unstack(tf.stack([start, tf.zeros_like(start)], axis=1))
        shapes = tf.unstack(tf.stack([size, tf.fill([tasks], tf.shape(vectors)[1])], axis=1))
        query = tf.split(tf.gather(queries, row), tasks)  # [1, d] each
        if excluded is not None:
            at = tf.gather(excluded, row) - start[:, None]  # [tasks, L]
            at = tf.where((at >= 0) & (at < size[:, None]), at, size[:, None])
            at = tf.unstack(tf.stack([tf.zeros_like(at), at], axis=2))  # [L, 2] each
        best = []
        for task in range(tasks):
            of_cluster = tf.slice(vectors, begins[task], shapes[task])  # [size, d]
            scores = tf.matmul(query[task], of_cluster, transpose_b=True)  # [1, size]
            # At least k scores, and one that exclusions in other clusters may fall on.
            scores = tf.pad(scores, [[0, 0], [0, k]], constant_values=-np.inf)
            if excluded is not None:
                none = tf.fill([tf.shape(at[task])[0]], -np.inf)
                scores = tf.tensor_scatter_nd_update(scores, at[task], none)
            best.append(tf.math.top_k(scores, k))  # equal scores: the lower position first
        scores, positions = (tf.concat(parts, axis=0) for parts in zip(*best, strict=True))
        return scores, start[:, None] + positions

    def best_of_all() -> Best:
        rounds = -(-count // _UNROLLED)
        padded = (tf.pad(values, [[0, rounds * _UNROLLED - count]]) for values in tasks)
        scores, positions = tf.map_fn(
            lambda some: best_of_some(*some),
            tuple(tf.reshape(values, [rounds, _UNROLLED]) for values in padded),
            fn_output_signature=(
                tf.TensorSpec([_UNROLLED, k], tf.float32),
                tf.TensorSpec([_UNROLLED, k], tf.int32),
            ),
        )
        return tf.reshape(scores, [-1, k])[:count], tf.reshape(positions, [-1, k])[:count]

    # A single task, as in serving, needs no loop.
    scores, positions = tf.cond(
        count == 1,
        lambda: best_of_some(*(tf.ensure_shape(values[:1], [1]) for values in tasks)),
        best_of_all,
    )  # [batch * C, k]
    positions = tf.where(scores == -np.inf, -1, positions)
    if alone:
        return scores, positions
    # The best of all clusters of a query, k even for a query without clusters.
    more = [[0, 0], [0, k]]
    scores = tf.pad(tf.reshape(scores, [batch, width * k]), more, constant_values=-np.inf)
    positions = tf.pad(tf.reshape(positions, [batch, width * k]), more, constant_values=-1)
    keys = order_key(scores, tf.gather(order, tf.maximum(positions, 0)))
    top = tf.math.top_k(keys, k).indices
    return tf.gather(scores, top, batch_dims=1), tf.gather(positions, top, batch_dims=1)


def distinct(ids: tf.Tensor) -> tf.Tensor:
    """Return the distinct ids >= 0 of each row [batch, C], falling, filled up with -1.

    The result is as wide as the row with the most of them: a query costs no more than its distinct
    clusters, however many ids it has.
    """
    ids = tf.sort(tf.pad(ids, [[0, 0], [1, 0]], constant_values=-1), axis=1)
    ids = tf.where(ids[:, 1:] == ids[:, :-1], -1, ids[:, 1:])
    counts = tf.math.count_nonzero(ids >= 0, axis=1, dtype=tf.int32)  # [batch], may be empty
    return tf.math.top_k(ids, tf.reduce_max(tf.pad(counts, [[0, 1]]))).values


def order_key(scores: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Return distinct int64 keys that sort by score, equal scores by descending index.

    So top-k breaks ties the same way for any position of a candidate. The bits of a float, read as
    an integer, sort as the float does if those of negative numbers are flipped.
    """
    bits = tf.bitcast(tf.where(scores == 0, 0.0, scores), tf.int32)  # -0.0 becomes 0.0
    bits = tf.where(bits < 0, tf.bitwise.bitwise_xor(bits, np.int32(0x7FFFFFFF)), bits)
    return tf.cast(bits, tf.int64) * 2**32 - tf.cast(index, tf.int64)


def constant(value: object, dtype: tf.DType | None = None) -> tf.Variable:
    """Return a constant that a SavedModel stores as a variable: a graph is limited to 2 GB."""
    return tf.Variable(value, trainable=False, dtype=dtype)
