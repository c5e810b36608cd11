"""The sequence recommender: a causal transformer over a user's items, trained as a two-tower model.

The query tower reads a history (SASRec: Kang and McAuley 2018, arXiv 1808.09781), the candidate
tower is an item's embedding plus that of its interest cluster and what its text features make, and
both towers share it. A score is

    query . item = affinity(history, item) + tendency(history) . log popularity(item)

with a tendency for each half-life of the popularity (`models.retrieval.popularity`). An empty
history has no affinity and the mean tendency, so it ranks by popularity; an item without
engagements still has the vector of its cluster and its text.

Positions count from the end of a history, in training from the end of the user's whole sequence: so
the model can tell recent transitions, which it must predict, from old ones.

Sequences are padded on the right with item 0. Attention is causal, so no item attends to the
padding, and a history in its own row needs no mask.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# tensorflow-recommenders is written for Keras 2; TensorFlow picks its Keras when first imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.retrieval.item_catalogue import Catalogue
from models.retrieval.item_statistics import ItemStatistics
from models.retrieval.retriever_config import RetrieverConfig

Dropout = Callable[[tf.Tensor], tf.Tensor]


class Block(tf.keras.layers.Layer):
    """A pre-norm transformer block: self-attention, then a feed-forward network."""

    def __init__(self, config: RetrieverConfig, seeds: Iterator[int]) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = tf.keras.layers.LayerNormalization(epsilon=1e-6)
        self.qkv = dense(3 * config.dimension, seeds)
        self.mix = dense(config.dimension, seeds)
        self.feed_norm = tf.keras.layers.LayerNormalization(epsilon=1e-6)
        self.widen = dense(4 * config.dimension, seeds, activation="gelu")
        self.narrow = dense(config.dimension, seeds)

    def call(
        self, x: tf.Tensor, allowed: tf.Tensor, dropout: Dropout, at: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Transform `x` [batch, length, dimension], at all positions or only at `at` [batch].

        `allowed` [batch or 1, length, length] says which positions a position may attend to.
        """
        batch, length, dimension = tf.unstack(tf.shape(x))
        qkv = self.qkv(self.attention_norm(x))
        qkv = tf.reshape(qkv, [batch, length, 3, self.heads, dimension // self.heads])
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))  # [b, h, length, d/h]
        if at is not None:
            allowed = tf.broadcast_to(allowed, [batch, length, length])
            x, allowed = (tf.gather(rows, at[:, None], batch_dims=1) for rows in (x, allowed))
            query = tf.gather(query, at[:, None], axis=2, batch_dims=1)
        scale = tf.math.rsqrt(tf.cast(dimension // self.heads, x.dtype))
        logits = tf.matmul(query, key, transpose_b=True) * scale  # [b, h, length, length]
        weights = tf.nn.softmax(tf.where(allowed[:, None], logits, logits.dtype.min))
        heads = tf.matmul(dropout(weights), value)  # [b, h, length, d/h]
        heads = tf.reshape(tf.transpose(heads, [0, 2, 1, 3]), tf.shape(x))
        x += dropout(self.mix(heads))
        return x + dropout(self.narrow(self.widen(self.feed_norm(x))))


class QueryTower(tf.keras.layers.Layer):
    """Maps the item vectors of a history to a query at each position."""

    def __init__(self, config: RetrieverConfig, half_lives: int, seeds: Iterator[int]) -> None:
        super().__init__()
        self.recency = self.add_weight(
            name="recency",
            shape=[config.max_length, config.dimension],
            initializer=small_normal(next(seeds)),
        )
        self.blocks = [Block(config, seeds) for _ in range(config.layers)]
        self.norm = tf.keras.layers.LayerNormalization(epsilon=1e-6)
        self.tendency = tf.keras.layers.Dense(half_lives, kernel_initializer="zeros")

    def call(
        self,
        vectors: tf.Tensor,
        recency: tf.Tensor,
        allowed: tf.Tensor,
        dropout: Dropout,
        at: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Return queries [batch, length, dimension + H], or [batch, 1, ...] at positions `at`.

        `vectors` [batch, length, dimension] are item vectors without popularity. `recency` [batch,
        length] counts the items of the same history that follow, at most max_length - 1. `dropout`
        is the identity at inference. The last H numbers of a query are the tendencies to what is
        popular, one for each half-life.
        """
        scale = tf.sqrt(tf.cast(tf.shape(vectors)[-1], vectors.dtype))
        x = dropout(vectors * scale + tf.gather(self.recency, recency))
        for block in self.blocks[:-1]:
            x = block(x, allowed, dropout)
        x = self.blocks[-1](x, allowed, dropout, at)
        x = self.norm(x)
        return tf.cast(tf.concat([x, self.tendency(x)], axis=-1), tf.float32)


class ItemTower(tf.keras.layers.Layer):
    """The vector of an item: its own embedding plus its cluster's plus its projected features.

    The last H numbers are its log popularities now. An item without training interactions has no
    own embedding.
    """

    def __init__(
        self,
        config: RetrieverConfig,
        catalogue: Catalogue,
        statistics: ItemStatistics,
        seeds: Iterator[int],
    ) -> None:
        super().__init__()
        items, features = catalogue.features.shape
        self.clusters = tf.constant(catalogue.clusters, tf.int32)  # [items]
        self.features = tf.constant(catalogue.features, tf.float32)  # [items, F]
        self.statistics = statistics
        clusters = int(np.max(catalogue.clusters)) + 1
        self.item, self.cluster, self.feature = (
            self.add_weight(
                name=name, shape=[rows, config.dimension], initializer=small_normal(next(seeds))
            )
            for name, rows in (("item", items), ("cluster", clusters), ("feature", features))
        )

    def call(self, items: tf.Tensor, own: tf.Tensor | None = None) -> tf.Tensor:
        """Return the vectors [..., dimension + H] of item indices [...]; see `timeless`."""
        return tf.concat([self.timeless(items, own), self.statistics.now(items)], axis=-1)

    def timeless(self, items: tf.Tensor, own: tf.Tensor | None = None) -> tf.Tensor:
        """Return the vectors [..., dimension] of item indices [...], without popularity.

        `own` [items] says for which items the own embedding is used; by default for all.
        """
        known = tf.convert_to_tensor(self.statistics.known)
        with_own = tf.gather(known if own is None else known & own, items)[..., None]
        vectors = tf.where(with_own, tf.gather(self.item, items), 0.0)
        vectors += tf.gather(self.cluster, tf.gather(self.clusters, items))
        return vectors + tf.tensordot(tf.gather(self.features, items), self.feature, axes=1)


class RetrieverModel(tfrs.Model):
    """The two towers and their loss.

    The statistics are those of the training sequences. The query tower computes in `compute_dtype`,
    the name of a Keras dtype policy; all weights and scores are float32.
    """

    def __init__(
        self,
        config: RetrieverConfig,
        catalogue: Catalogue,
        statistics: ItemStatistics,
        compute_dtype: str = "float32",
    ) -> None:
        super().__init__()
        self.config, self.statistics = config, statistics
        self.half_lives = statistics.half_lives
        # One range of seeds for each model seed, so that no two initialisers share one.
        seeds = itertools.count(config.seed * 1_000)
        self.items = ItemTower(config, catalogue, statistics, seeds)
        with computing_in(compute_dtype):
            self.queries = QueryTower(config, self.half_lives, seeds)
        # Keras makes weights at the first call. At first all rank by popularity since ever.
        self.query(tf.zeros([1, config.max_length, config.dimension]), tf.ones([1], tf.int32))
        self.queries.tendency.bias.assign(tf.one_hot(0, self.half_lives))

    def query(self, vectors: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Return the query of each history, [batch, dimension + H].

        `vectors` [batch, 1 to max_length, dimension] are item vectors without popularity, padded on
        the right; `lengths` [batch] the items of each history.
        """
        index = tf.range(tf.shape(vectors)[1])[None]  # [1, length]
        causal = index[..., None] >= index[:, None]  # [1, length, length]
        last = tf.maximum(lengths - 1, 0)
        recency = tf.maximum(last[:, None] - index, 0)  # [batch, length]
        queries = self.queries(vectors, recency, causal, dropout=tf.identity, at=last)[:, 0]
        tendency = tf.cast(self.queries.tendency.bias, tf.float32)
        by_popularity = tf.concat([tf.zeros([self.config.dimension]), tendency], axis=0)
        return tf.where(lengths[:, None] > 0, queries, by_popularity)

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the mean softmax loss of the next item over all positions of a batch.

        The softmax is over all items if there are at most `negatives`, else over a sample.
        `inputs` are items, targets, recency, snapshots (of the popularity before the target) and
        users, each [batch, length] int32; user -1 is padding.
        """
        users = inputs["users"]
        step = tf.cast(self.optimizer.iterations, tf.int32)
        seed = tf.stack([self.config.seed, step])
        sites = itertools.count(1)

        def dropout(x: tf.Tensor) -> tf.Tensor:
            if not training or not self.config.dropout:
                return x
            site = tf.random.fold_in(seed, next(sites))
            return tf.nn.experimental.stateless_dropout(x, self.config.dropout, site)

        items = self.statistics.size
        own = None
        if training and self.config.item_dropout:
            site = tf.random.fold_in(seed, next(sites))
            own = tf.random.stateless_uniform([items], site) >= self.config.item_dropout

        index = tf.range(tf.shape(users)[1])
        same_user = users[:, :, None] == users[:, None]
        allowed = same_user & (index[:, None] >= index)[None]  # [batch, length, length]
        vectors = self.items.timeless(inputs["items"], own)
        queries = self.queries(vectors, inputs["recency"], allowed, dropout)

        real = users >= 0
        queries = queries[real], inputs["snapshots"][real]
        targets = inputs["targets"][real]  # [positions]
        if items > self.config.negatives:
            return self.sampled_loss(queries, targets, users[real], own, seed)
        scores = self.scores(*queries, tf.range(items), own)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, scores))

    def scores(
        self, queries: tf.Tensor, snapshots: tf.Tensor, items: tf.Tensor, own: tf.Tensor | None
    ) -> tf.Tensor:
        """Return the scores [n, m] of items [m] for queries [n, dimension + H].

        The popularity is that of the snapshot [n] of each query. `own` is as in `ItemTower`.
        """
        affinity, tendency = self.split(queries)
        past = tf.transpose(self.statistics.past(items), [1, 2, 0])  # [S, H, m]
        popular = tf.matmul(tendency[:, None], tf.gather(past, snapshots))  # [n, 1, m]
        vectors = self.items.timeless(items, own)
        return tf.matmul(affinity, vectors, transpose_b=True) + tf.squeeze(popular, 1)

    def split(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the affinity [n, dimension] and the tendencies [n, H] of queries."""
        return tf.split(queries, [self.config.dimension, self.half_lives], axis=1)

    def sampled_loss(
        self,
        queries: tuple[tf.Tensor, tf.Tensor],
        targets: tf.Tensor,
        users: tf.Tensor,
        own: tf.Tensor | None,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Return the mean sampled softmax loss of queries [n, dimension + H] in snapshots [n].

        A position is scored against its target and `negatives` items that all positions share: one
        half are targets of the batch, the other is drawn uniformly (mixed negative sampling, Yang
        et al., WWW 2020). The logits are corrected for the probability that an item is drawn (the
        logQ correction, Yi et al., "Sampling-Bias-Corrected Neural Modeling", RecSys 2019). Targets
        of the same user are no negatives: they are drawn with the query, and a correction by
        popularity cannot undo that. It is no `tfrs.tasks.Retrieval`, because a candidate has other
        scores at other times.
        """
        items, count = self.statistics.size, tf.shape(targets)[0]
        half = self.config.negatives // 2
        uniform = self.config.negatives - half
        of_batch = tf.random.stateless_uniform([half], seed, 0, count, tf.int32)
        other_seed = tf.random.fold_in(seed, 0)  # dropout folds in the numbers from 1
        drawn = tf.random.stateless_uniform([uniform], other_seed, 0, items, tf.int32)
        candidates = tf.concat([tf.gather(targets, of_batch), drawn], axis=0)  # [negatives]

        def corrected(scores: tf.Tensor, scored: tf.Tensor) -> tf.Tensor:
            expected = tf.gather(self.statistics.share, scored) * half + uniform / items
            return scores - tf.math.log(expected)

        same_user = users[:, None] == tf.gather(users, of_batch)
        wrong = tf.pad(same_user, [[0, 0], [0, uniform]]) | (targets[:, None] == candidates)
        others = corrected(self.scores(*queries, candidates, own), candidates)
        others = tf.where(wrong, others.dtype.min, others)
        itself = corrected(self.scores_of_own(*queries, targets, own), targets)
        logits = tf.concat([itself[:, None], others], axis=1)  # [n, 1 + negatives]
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(tf.zeros_like(targets), logits)
        )

    def scores_of_own(
        self, queries: tf.Tensor, snapshots: tf.Tensor, items: tf.Tensor, own: tf.Tensor | None
    ) -> tf.Tensor:
        """Return the score [n] of an item [n] of its own for each query; see `scores`."""
        affinity, tendency = self.split(queries)
        by_affinity = tf.reduce_sum(affinity * self.items.timeless(items, own), axis=1)
        return by_affinity + tf.reduce_sum(tendency * self.statistics.at(items, snapshots), axis=1)


@contextmanager
def computing_in(dtype: str) -> Iterator[None]:
    """Make the layers created in this context compute in a dtype policy of Keras."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(dtype)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def small_normal(seed: int) -> Any:
    """Return the initialiser of embeddings."""
    return tf.keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)


def dense(units: int, seeds: Iterator[int], activation: str | None = None) -> Any:
    """Return a dense layer whose initialiser has its own seed."""
    initializer = tf.keras.initializers.GlorotUniform(seed=next(seeds))
    return tf.keras.layers.Dense(units, activation=activation, kernel_initializer=initializer)
