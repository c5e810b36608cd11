"""Exact top k among the candidates of a few clusters, as a layer in TFRS's hierarchy.

Candidates have *places*: cluster by cluster, so that a cluster is one contiguous slice, in the
order given within it, those of no cluster last. A query reads the slices of the clusters it asks
for and nothing else. The score is the same product as in brute force: asked query by query,
`tfrs.layers.factorized_top_k.BruteForce` gives the same bits.

Vectors are read from their variable whole, which copies nothing, and only then gathered: gathering
from a variable itself (`tf.gather(variable, ...)`) would make TensorFlow copy all of it at every
later read.
"""

import os
from typing import Any

# tensorflow-recommenders is written for Keras 2; TensorFlow picks its Keras when first imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

Queries = tuple[tf.Tensor, tf.Tensor]  # queries (or what the query model takes), cluster ids
Best = tuple[tf.Tensor, tf.Tensor]  # scores and places
_UNROLLED = 8  # clusters searched in a round of the loop, so that rounds cost less


class ClusterTopK(tfrs.layers.factorized_top_k.TopK):
    """Retrieves the k best candidates of the clusters that come with each query.

    Unlike the other layers of TFRS it takes `queries` as a pair (queries, cluster_ids), cluster_ids
    being [batch, C] int32: repeated ids count once, ids that are no cluster are ignored. Where
    fewer than k candidates are left the answer is filled up with score -inf and the identifier ""
    or -1. Equal scores are in the order in which the candidates were given. It is fast inside a
    `tf.function`; called eagerly, Python walks through queries and clusters.

    Parameters
    ----------
    clusters
        How many there are, M; ids are 0 to M - 1.
    query_model
        Makes queries [batch, d] of the first of the pair; by default that is the queries.
    k
        Candidates in an answer, unless the call says otherwise.
    name
        Of the layer.

    Attributes
    ----------
    candidates
        [n, d] float32 vectors, by place, as are the following two.
    identifiers
        [n].
    order
        [n] int32, position among the candidates as they were given.
    starts
        [M + 1] int32: cluster c has the places starts[c] to starts[c + 1].
    place_of
        Table from an identifier to its place, -1 where there is none.
    """

    def __init__(
        self,
        clusters: int,
        query_model: tf.keras.Model | None = None,
        k: int = 10,
        name: str | None = None,
    ) -> None:
        super().__init__(k=k, name=name)
        if clusters < 1:
            raise ValueError(f"clusters is {clusters}: there must be at least one")
        if k < 1:
            raise ValueError(f"k is {k}: at least one candidate must be in an answer")
        self.clusters = clusters
        self.query_model = query_model
        self.candidates: Any = None

    def index(
        self,
        candidates: tf.Tensor,
        identifiers: tf.Tensor | None = None,
        clusters: tf.Tensor | None = None,
    ) -> "ClusterTopK":
        """Build the index, in place of an earlier one.

        Parameters
        ----------
        candidates
            [n, d] float32 vectors.
        identifiers
            [n], string, int32 or int64, distinct; by default 0 to n - 1.
        clusters
            [n] int32, the cluster of each candidate. One of cluster -1 is never an answer, but has
            a place.

        Returns
        -------
        ClusterTopK
            Itself.

        Raises
        ------
        ValueError
            If the lengths differ, an identifier repeats, or clusters are missing or not -1 to
            M - 1.
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
        self.candidates = constant(tf.gather(candidates, order))
        self.identifiers = constant(identifiers)
        self.order = constant(order)
        self.starts = constant(starts)
        self.place_of = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(identifiers, tf.range(count)), default_value=-1
        )
        return self

    def index_from_dataset(self, candidates: tf.data.Dataset) -> "ClusterTopK":
        """`index` with batches of (identifiers, candidates, clusters)."""
        if not isinstance(candidates.element_spec, tuple) or len(candidates.element_spec) != 3:
            raise ValueError(
                f"the dataset yields {candidates.element_spec}: it must yield batches of "
                "(identifiers, candidates, clusters)"
            )
        identifiers, vectors, clusters = (
            tf.concat(parts, axis=0) for parts in zip(*candidates, strict=True)
        )
        return self.index(vectors, identifiers, clusters)

    def call(self, queries: Queries, k: int | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Best candidates of the clusters asked for.

        Parameters
        ----------
        queries
            (queries [batch, d], cluster_ids [batch, C]).
        k
            By default that of the layer.

        Returns
        -------
        scores, identifiers
            [batch, k], best first.

        Raises
        ------
        ValueError
            If there is no index.
        """
        return self.search(queries, None, k)

    def query_with_exclusions(
        self, queries: Queries, exclusions: tf.Tensor, k: int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`call` without the candidates whose identifiers are in `exclusions` [batch, L]."""
        self._check_index()
        return self.search(queries, self.place_of.lookup(exclusions), k)

    def search(
        self, queries: Queries, excluded: tf.Tensor | None, k: int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`call` without the candidates at the places `excluded` [batch, L], -1 being none."""
        self._check_index()
        queries, cluster_ids = queries
        if self.query_model is not None:
            queries = self.query_model(queries)
        scores, places = top_places(
            self.vectors(),
            self.starts.read_value(),
            self.order.read_value(),
            queries,
            cluster_ids,
            excluded,
            self._k if k is None else k,
        )
        none = tf.constant("" if self.identifiers.dtype == tf.string else -1)
        found = tf.gather(self.identifiers.read_value(), tf.maximum(places, 0))
        return scores, tf.where(places < 0, tf.cast(none, found.dtype), found)

    def vectors(self) -> tf.Tensor:
        """Vectors [n, d] of all places, not copied."""
        return self.candidates.read_value()

    def is_exact(self) -> bool:
        """Whether the answers are those of brute force: always."""
        return True

    def _check_index(self) -> None:
        if self.candidates is None:
            raise ValueError("there is no index: call `index` first")


def top_places(
    vectors: tf.Tensor,
    starts: tf.Tensor,
    order: tf.Tensor,
    queries: tf.Tensor,
    cluster_ids: tf.Tensor,
    excluded: tf.Tensor | None,
    k: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores and places of the best candidates of each query's clusters.

    Clusters are searched a few at a time, so memory is that of their scores and of the
    answers of all, [batch, C, k], and an answer does not depend on the batch that it is in.

    Parameters
    ----------
    vectors, starts, order
        [n, d], [M + 1], [n], as `ClusterTopK` has them.
    queries
        [batch, d].
    cluster_ids
        [batch, C] int32.
    excluded
        [batch, L] int32 places; what is no place of a cluster asked for is ignored.
    k
        Candidates in an answer.

    Returns
    -------
    scores, places
        [batch, k] float32 and int32, best first, filled up with -inf and -1.
    """
    clusters = tf.shape(starts)[0] - 1
    asked = tf.clip_by_value(cluster_ids, -1, clusters)  # both ends are clusters without candidates
    alone = asked.shape[1] == 1
    if not alone:
        asked = tf.sort(tf.pad(asked, [[0, 0], [1, 0]], constant_values=-1), axis=1)
        asked = tf.where(asked[:, 1:] == asked[:, :-1], -1, asked[:, 1:])  # none repeats
    starts, ends = (
        tf.reshape(tf.gather(starts, tf.clip_by_value(cluster, 0, clusters)), [-1])
        for cluster in (asked, asked + 1)
    )
    batch, width = tf.unstack(tf.shape(asked))
    # A task is a cluster of a query: its row, first place and size, [batch * C] each.
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
            # There are at least k, and one that exclusions from elsewhere may fall on.
            scores = tf.pad(scores, [[0, 0], [0, k]], constant_values=-np.inf)
            if excluded is not None:
                none = tf.fill([tf.shape(at[task])[0]], -np.inf)
                scores = tf.tensor_scatter_nd_update(scores, at[task], none)
            best.append(tf.math.top_k(scores, k))  # equal scores: the lower place first
        scores, places = (tf.concat(parts, axis=0) for parts in zip(*best, strict=True))
        return scores, start[:, None] + places

    def best_of_all() -> Best:
        rounds = -(-count // _UNROLLED)
        padded = (tf.pad(values, [[0, rounds * _UNROLLED - count]]) for values in tasks)
        scores, places = tf.map_fn(
            lambda some: best_of_some(*some),
            tuple(tf.reshape(values, [rounds, _UNROLLED]) for values in padded),
            fn_output_signature=(
                tf.TensorSpec([_UNROLLED, k], tf.float32),
                tf.TensorSpec([_UNROLLED, k], tf.int32),
            ),
        )
        return tf.reshape(scores, [-1, k])[:count], tf.reshape(places, [-1, k])[:count]

    # One alone, as in serving, is spared the loop.
    scores, places = tf.cond(
        count == 1,
        lambda: best_of_some(*(tf.ensure_shape(values[:1], [1]) for values in tasks)),
        best_of_all,
    )  # [batch * C, k]
    places = tf.where(scores == -np.inf, -1, places)
    if alone:
        return scores, places
    # The best of all clusters of a query; there are k even if it asks for none.
    more = [[0, 0], [0, k]]
    scores = tf.pad(tf.reshape(scores, [batch, width * k]), more, constant_values=-np.inf)
    places = tf.pad(tf.reshape(places, [batch, width * k]), more, constant_values=-1)
    keys = order_key(scores, tf.gather(order, tf.maximum(places, 0)))
    top = tf.math.top_k(keys, k).indices
    return tf.gather(scores, top, batch_dims=1), tf.gather(places, top, batch_dims=1)


def order_key(scores: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Distinct int64 keys that sort by score, and among equal scores by descending index.

    Top-k then breaks ties the same way wherever a candidate happens to lie. The bits of a float,
    read as an integer, sort as the float does once those of negative numbers are flipped.
    """
    bits = tf.bitcast(tf.where(scores == 0, 0.0, scores), tf.int32)  # -0.0 becomes 0.0
    bits = tf.where(bits < 0, tf.bitwise.bitwise_xor(bits, np.int32(0x7FFFFFFF)), bits)
    return tf.cast(bits, tf.int64) * 2**32 - tf.cast(index, tf.int64)


def constant(value: object, dtype: tf.DType | None = None) -> tf.Variable:
    """Fixed tensor kept among a SavedModel's variables: a graph is limited to 2 GB."""
    return tf.Variable(value, trainable=False, dtype=dtype)
