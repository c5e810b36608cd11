"""The sequence recommender: a causal transformer over a user's items, trained as a two-tower model.

The query tower reads a history (SASRec: Kang and McAuley 2018, arXiv 1808.09781), the candidate
tower is an item's embedding plus that of its interest cluster, and both towers share it. A score is

    query . item = affinity(history, item) + tendency(history) * log popularity(item)

so an empty history, whose query is (0, ..., 0, 1), ranks exactly by popularity, and an item that
nobody engaged with is still placed by its cluster.

Sequences are padded on the right with item 0. Attention is causal, so nothing before the padding
ever sees it, and no mask is needed where a history has a row of its own.
"""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# tensorflow-recommenders is written for Keras 2; TensorFlow picks its Keras when first imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from numpy.typing import NDArray

from models.retriever_config import RetrieverConfig

TOP = 10  # the cut of HR@10 and NDCG@10
EVALUATION_ROWS = 256  # users scored against the whole catalogue at once

Epoch = dict[str, Any]  # epoch [int], loss, HR@10, NDCG@10 [float]
Batch = dict[str, NDArray[np.int32]]
Dropout = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Catalogue:
    """Every item with metadata, whether anyone engaged with it or not.

    Attributes
    ----------
    item_ids
        [items] str, distinct and not empty.
    clusters
        [items] int32, the cluster of each item at the level in use.
    eligible
        [items] bool, whether the item may be recommended.
    """

    item_ids: NDArray[np.str_]
    clusters: NDArray[np.int32]
    eligible: NDArray[np.bool_]

    def __post_init__(self) -> None:
        items = len(self.item_ids)
        if not items:
            raise ValueError("the catalogue has no items: check the items input")
        if len(self.clusters) != items or len(self.eligible) != items:
            raise ValueError(
                f"{items} item ids, {len(self.clusters)} clusters, {len(self.eligible)} eligible "
                "flags: the three must be of one length"
            )
        if np.min(self.clusters) < 0:
            raise ValueError(f"cluster {np.min(self.clusters)} of an item: ids start at 0")
        if len(set(self.item_ids)) != items or "" in set(self.item_ids):
            raise ValueError("item ids must be distinct and not empty: deduplicate the items")


class Block(tf.keras.layers.Layer):
    """One pre-norm transformer block: self-attention, then a feed-forward network."""

    def __init__(self, config: RetrieverConfig, seeds: Iterator[int]) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = tf.keras.layers.LayerNormalization(epsilon=1e-6)
        self.qkv = dense(3 * config.dimension, seeds)
        self.mix = dense(config.dimension, seeds)
        self.feed_norm = tf.keras.layers.LayerNormalization(epsilon=1e-6)
        self.widen = dense(4 * config.dimension, seeds, activation="gelu")
        self.narrow = dense(config.dimension, seeds)

    def call(self, x: tf.Tensor, allowed: tf.Tensor, dropout: Dropout) -> tf.Tensor:
        """Transform `x` [batch, length, dimension]; `allowed` [batch or 1, length, length]."""
        batch, length, dimension = tf.unstack(tf.shape(x))
        qkv = self.qkv(self.attention_norm(x))
        qkv = tf.reshape(qkv, [batch, length, 3, self.heads, dimension // self.heads])
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))  # [b, h, length, d/h]
        scale = tf.math.rsqrt(tf.cast(dimension // self.heads, x.dtype))
        logits = tf.matmul(query, key, transpose_b=True) * scale  # [b, h, length, length]
        weights = tf.nn.softmax(tf.where(allowed[:, None], logits, logits.dtype.min))
        heads = tf.matmul(dropout(weights), value)  # [b, h, length, d/h]
        heads = tf.reshape(tf.transpose(heads, [0, 2, 1, 3]), [batch, length, dimension])
        x += dropout(self.mix(heads))
        return x + dropout(self.narrow(self.widen(self.feed_norm(x))))


class QueryTower(tf.keras.layers.Layer):
    """From the item vectors of a history to a query at each of its positions."""

    def __init__(self, config: RetrieverConfig, seeds: Iterator[int]) -> None:
        super().__init__()
        self.place = self.add_weight(
            name="place",
            shape=[config.max_length, config.dimension],
            initializer=small_normal(next(seeds)),
        )
        self.blocks = [Block(config, seeds) for _ in range(config.layers)]
        self.norm = tf.keras.layers.LayerNormalization(epsilon=1e-6)
        self.tendency = tf.keras.layers.Dense(
            1, kernel_initializer="zeros", bias_initializer="ones", name="tendency"
        )

    def call(
        self, vectors: tf.Tensor, places: tf.Tensor, allowed: tf.Tensor, dropout: Dropout
    ) -> tf.Tensor:
        """Queries at all positions.

        Parameters
        ----------
        vectors
            [batch, length, dimension], the item vectors without their popularity.
        places
            [batch or 1, length] int32, how many items of the same history precede.
        allowed
            [batch or 1, length, length] bool, which positions a position may attend to.
        dropout
            Applied wherever the network drops activations; the identity at inference.

        Returns
        -------
        tf.Tensor
            [batch, length, dimension + 1], the last number being the tendency to the popular.
        """
        scale = tf.sqrt(tf.cast(tf.shape(vectors)[-1], vectors.dtype))
        x = dropout(vectors * scale + tf.gather(self.place, places))
        for block in self.blocks:
            x = block(x, allowed, dropout)
        x = self.norm(x)
        return tf.concat([x, self.tendency(x)], axis=-1)


class ItemTower(tf.keras.layers.Layer):
    """An item's embedding plus its cluster's, and its log popularity as the last number."""

    def __init__(
        self,
        config: RetrieverConfig,
        clusters: NDArray[np.int32],
        log_popularity: NDArray[np.float32],
        seeds: Iterator[int],
    ) -> None:
        super().__init__()
        self.clusters = tf.constant(clusters, tf.int32)  # [items]
        self.log_popularity = tf.constant(log_popularity, tf.float32)  # [items]
        self.item = self.add_weight(
            name="item",
            shape=[len(clusters), config.dimension],
            initializer=small_normal(next(seeds)),
        )
        self.cluster = self.add_weight(
            name="cluster",
            shape=[int(np.max(clusters)) + 1, config.dimension],
            initializer=small_normal(next(seeds)),
        )

    def call(self, items: tf.Tensor) -> tf.Tensor:
        """Vectors [..., dimension + 1] of item indices [...]."""
        cluster = tf.gather(self.cluster, tf.gather(self.clusters, items))
        popularity = tf.gather(self.log_popularity, items)[..., None]
        return tf.concat([tf.gather(self.item, items) + cluster, popularity], axis=-1)


class RetrieverModel(tfrs.Model):
    """The two towers and their loss.

    Parameters
    ----------
    config
        Sizes and training.
    clusters
        [items] int32.
    counts
        [items], how often the training sequences hold each item.
    """

    def __init__(
        self, config: RetrieverConfig, clusters: NDArray[np.int32], counts: NDArray[np.int64]
    ) -> None:
        super().__init__()
        self.config = config
        share = (counts + 1) / np.sum(counts + 1)  # add one: unseen items have a logarithm too
        self.share = tf.constant(share, tf.float32)  # [items]
        # One range of seeds for each model seed, so that no two initialisers share one.
        seeds = itertools.count(config.seed * 1_000)
        self.items = ItemTower(config, clusters, np.log(share).astype(np.float32), seeds)
        self.queries = QueryTower(config, seeds)
        self.task = tfrs.tasks.Retrieval(remove_accidental_hits=True)
        # Keras makes weights at the first call.
        self.query(tf.zeros([1, config.max_length, config.dimension]), tf.ones([1], tf.int32))

    def query(self, vectors: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Query of the whole of each history.

        Parameters
        ----------
        vectors
            [batch, max_length, dimension], item vectors without popularity, padded on the right.
        lengths
            [batch] int32, items in each history. 0 gives the query that ranks by popularity.

        Returns
        -------
        tf.Tensor
            [batch, dimension + 1].
        """
        length = self.config.max_length
        places = tf.range(length)[None]  # [1, length]
        causal = places[..., None] >= places[:, None]  # [1, length, length]
        queries = self.queries(vectors, places, causal, dropout=tf.identity)
        last = tf.gather(queries, tf.maximum(lengths - 1, 0), batch_dims=1)
        by_popularity = tf.one_hot(self.config.dimension, self.config.dimension + 1)
        return tf.where(lengths[:, None] > 0, last, by_popularity)

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Mean sampled softmax loss of the next item over all positions of a batch.

        The candidates of a position are its target, the targets of other users in the batch, and
        items drawn uniformly (mixed negative sampling, Yang et al., WWW 2020). What a candidate's
        logit owes to how often it is drawn is taken off it (the logQ correction, Yi et al.,
        "Sampling-Bias-Corrected Neural Modeling", RecSys 2019). Targets of the same user are no
        negatives: they are drawn with the query, which no correction by popularity makes good.

        Parameters
        ----------
        inputs
            items, targets, places, users, each [batch, length] int32; user -1 is padding.
        training
            Whether to drop activations.
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

        index = tf.range(tf.shape(users)[1])
        same_user = users[:, :, None] == users[:, None]
        allowed = same_user & (index[:, None] >= index)[None]  # [batch, length, length]
        vectors = self.items(inputs["items"])[..., :-1]
        queries = self.queries(vectors, inputs["places"], allowed, dropout)

        real = users >= 0
        queries = queries[real]  # [positions, dimension + 1]
        targets = inputs["targets"][real]  # [positions]
        users = users[real]
        items, negatives = len(self.share), self.config.negatives
        drawn = tf.random.stateless_uniform([negatives], seed, 0, items, tf.int32)
        candidates = tf.concat([targets, drawn], axis=0)  # [positions + negatives]
        positions = tf.cast(tf.shape(targets)[0], tf.float32)
        expected = tf.gather(self.share, candidates) * positions + negatives / items
        other_user = users[:, None] != users
        own = tf.eye(tf.shape(users)[0], dtype=tf.bool)
        usable = tf.pad(other_user | own, [[0, 0], [0, negatives]], constant_values=True)
        loss = self.task(
            queries,
            self.items(candidates),
            candidate_sampling_probability=expected / (positions + negatives),
            candidate_ids=candidates,
            score_mask=usable,
            compute_metrics=False,
        )
        return loss / positions


def train_retriever(
    catalogue: Catalogue,
    sequences: Sequence[NDArray[np.int32]],
    config: RetrieverConfig,
    checkpoint_dir: Path,
    on_epoch: Callable[[Epoch], None],
) -> tuple[RetrieverModel, list[Epoch]]:
    """Train until the validation NDCG@10 stops improving.

    The last item of some users is held out for validation (`hold_out`), and the weights of the
    best epoch are kept. With no user to validate on, all epochs run and the last weights are kept.

    After each epoch everything is checkpointed, and randomness is a function of (seed, epoch) or
    (seed, step) alone: a run that was killed takes up after its last whole epoch and ends with
    the same weights. Checkpoints live in a folder named by a hash of the inputs, so that those of
    other inputs are never taken up. Switches TensorFlow to deterministic ops for the process.

    Parameters
    ----------
    catalogue
        The items; indices in `sequences` refer to it.
    sequences
        For each user the item indices, oldest first. Users with one item count for popularity.
    config
        Sizes and training.
    checkpoint_dir
        Local folder.
    on_epoch
        Called with each new row of the history, once its epoch is checkpointed.

    Returns
    -------
    model, history
        History rows: epoch (from 1), loss, HR@10, NDCG@10 (both NaN without validation users).

    Raises
    ------
    ValueError
        If no user has two interactions, or an index is not of the catalogue.
    """
    items = len(catalogue.item_ids)
    everything = np.concatenate([np.zeros(0, np.int32), *sequences])
    if len(everything) and not 0 <= np.min(everything) <= np.max(everything) < items:
        raise ValueError(
            f"item indices {np.min(everything)} to {np.max(everything)} in the sequences: "
            f"the catalogue has indices 0 to {items - 1}"
        )
    tf.config.experimental.enable_op_determinism()
    training, histories, held_out = hold_out(sequences, config)
    counts = np.bincount(np.concatenate([np.zeros(0, np.int32), *training]), minlength=items)
    training = [sequence for sequence in training if len(sequence) >= 2]
    if not training:
        raise ValueError(
            f"none of {len(sequences)} users has two interactions: there is no next item to learn "
            "from; check min_rating and the interactions input"
        )

    model = RetrieverModel(config, catalogue.clusters, counts)
    best = RetrieverModel(config, catalogue.clusters, counts)
    model.compile(optimizer=tf.keras.optimizers.Adam(config.learning_rate))
    model.optimizer.build(model.trainable_variables)  # its slots must exist to be restored
    train_step = tf.function(model.train_step)
    done = tf.Variable(0, dtype=tf.int32)
    figures = tf.Variable(tf.fill([config.epochs, 3], tf.constant(np.nan, tf.float64)))
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(
            model=model, best=best, optimizer=model.optimizer, done=done, figures=figures
        ),
        str(checkpoint_dir / fingerprint(catalogue, sequences, config)),
        max_to_keep=1,
    )
    manager.restore_or_initialize()

    while not finished(figures.numpy()[: int(done)], config):
        epoch = int(done)
        losses = [
            train_step({name: tf.constant(value) for name, value in batch.items()})["loss"]
            for batch in batches(training, config, epoch)
        ]
        hit_rate, ndcg = evaluate(model, histories, held_out)
        earlier = figures.numpy()[:epoch, 2]
        if not held_out.size or not epoch or ndcg > np.max(earlier):
            for kept, current in zip(best.variables, model.variables, strict=True):
                kept.assign(current)
        figures[epoch].assign([float(np.mean(losses)), hit_rate, ndcg])
        done.assign_add(1)
        manager.save()
        on_epoch(history_rows(figures.numpy()[: epoch + 1])[-1])
    return best, history_rows(figures.numpy()[: int(done)])


def finished(figures: NDArray[np.float64], config: RetrieverConfig) -> bool:
    """Whether training is over after the epochs with these figures [epochs, 3]."""
    if len(figures) in (0, config.epochs):
        return len(figures) == config.epochs
    ndcg = figures[:, 2]
    return bool(len(ndcg) - 1 - np.argmax(ndcg) >= config.patience and not np.isnan(ndcg[0]))


def history_rows(figures: NDArray[np.float64]) -> list[Epoch]:
    """Figures [epochs, 3] as rows with names."""
    return [
        {"epoch": epoch, "loss": float(loss), f"HR@{TOP}": float(hits), f"NDCG@{TOP}": float(ndcg)}
        for epoch, (loss, hits, ndcg) in enumerate(figures, start=1)
    ]


def hold_out(
    sequences: Sequence[NDArray[np.int32]], config: RetrieverConfig
) -> tuple[list[NDArray[np.int32]], list[NDArray[np.int32]], NDArray[np.int32]]:
    """Take the last item from at most `validation_users` users with three or more.

    Users whose last item occurs earlier too are not asked: what a history holds is never
    recommended, so they could only be misses.

    Returns
    -------
    training, histories, held_out
        All users' sequences to train on; of those validated, the history, and [users] the item.
    """
    able = [
        user
        for user, sequence in enumerate(sequences)
        if len(sequence) >= 3 and sequence[-1] not in sequence[:-1]
    ]
    rng = np.random.default_rng(config.seed)
    count = min(len(able), config.validation_users)
    chosen = np.sort(rng.choice(np.array(able, np.int64), count, replace=False))
    training = list(sequences)
    for user in chosen:
        training[user] = sequences[user][:-1]
    histories = [training[user] for user in chosen]
    return training, histories, np.array([sequences[user][-1] for user in chosen], np.int32)


def batches(
    sequences: Sequence[NDArray[np.int32]], config: RetrieverConfig, epoch: int
) -> Iterator[Batch]:
    """Batches of one epoch, a function of (seed, epoch).

    The users, shuffled, are laid end to end and the whole is cut into rows of `max_length`: no
    position is wasted on padding however short the histories are, and long ones are cut elsewhere
    each epoch. Attention keeps to the user; what lies before a cut is not seen.

    Yields
    ------
    Batch
        items, targets, places, users, each [batch_size, max_length] int32. `places` counts from
        the start of the user within the row. The last batch is filled up with user -1, item 0.
    """
    order = np.random.default_rng([config.seed, epoch]).permutation(len(sequences))
    length = config.max_length
    sizes = np.array([len(sequences[user]) - 1 for user in order])
    total = int(np.sum(sizes))
    rows = -(-total // (length * config.batch_size)) * config.batch_size
    shape = (rows, length)
    padding = (0, rows * length - total)

    items = np.concatenate([sequences[user][:-1] for user in order])
    targets = np.concatenate([sequences[user][1:] for user in order])
    users = np.pad(np.repeat(order, sizes), padding, constant_values=-1).reshape(shape)
    index = np.broadcast_to(np.arange(length), shape)
    starts = np.diff(users, axis=1, prepend=-2) != 0  # where a user begins in a row
    places = index - np.maximum.accumulate(np.where(starts, index, 0), axis=1)
    arrays = {
        "items": np.pad(items, padding).reshape(shape),
        "targets": np.pad(targets, padding).reshape(shape),
        "places": places,
        "users": users,
    }
    for row in range(0, rows, config.batch_size):
        yield {
            name: array[row : row + config.batch_size].astype(np.int32)
            for name, array in arrays.items()
        }


def evaluate(
    model: RetrieverModel, histories: Sequence[NDArray[np.int32]], held_out: NDArray[np.int32]
) -> tuple[float, float]:
    """HR@10 and NDCG@10 of the held-out items, ranked among all items outside the history.

    With one relevant item, at rank r from 0, HR@10 is [r < 10] and NDCG@10 [r < 10] / log2(r + 2).
    Equal scores rank by index. Both are NaN where there are no users.
    """
    if not held_out.size:
        return float("nan"), float("nan")
    vectors = model.items(tf.range(len(model.share)))  # [items, dimension + 1]
    ranks = []
    for start in range(0, len(histories), EVALUATION_ROWS):
        part = slice(start, start + EVALUATION_ROWS)
        items, lengths = latest(histories[part], model.config.max_length)
        queries = encode(model, tf.constant(items), tf.constant(lengths))
        scores = tf.matmul(queries, vectors, transpose_b=True).numpy()  # [batch, items]
        ranks.append(rank_of(scores, histories[part], held_out[part]))
    rank = np.concatenate(ranks)
    hit = rank < TOP
    return float(np.mean(hit)), float(np.mean(hit / np.log2(rank + 2)))


@tf.function(reduce_retracing=True)
def encode(model: RetrieverModel, items: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Queries [batch, dimension + 1] of item indices [batch, max_length] padded on the right."""
    return model.query(model.items(items)[..., :-1], lengths)


def rank_of(
    scores: NDArray[np.float32],
    histories: Sequence[NDArray[np.int32]],
    held_out: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Rank from 0 of each held-out item among the items outside its history, ties by index."""
    rows = np.arange(len(scores))
    target = scores[rows, held_out][:, None]  # [batch, 1]
    earlier = np.arange(scores.shape[1]) < held_out[:, None]
    ahead = (scores > target) | ((scores == target) & earlier)  # [batch, items]
    for row, history in enumerate(histories):
        ahead[row, history] = False
    return np.sum(ahead, axis=1)


def latest(
    histories: Sequence[NDArray[np.int32]], length: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Last `length` items of each history [batch, length], padded on the right, and how many."""
    items = np.zeros((len(histories), length), np.int32)
    lengths = np.array([min(len(history), length) for history in histories], np.int32)
    for row, history in enumerate(histories):
        items[row, : lengths[row]] = history[-length:]
    return items, lengths


def fingerprint(
    catalogue: Catalogue, sequences: Sequence[NDArray[np.int32]], config: RetrieverConfig
) -> str:
    """Name for the inputs that decide the weights."""
    digest = hashlib.sha256(repr((config, list(map(str, catalogue.item_ids)))).encode())
    digest.update(np.asarray(catalogue.clusters, np.int32).tobytes())
    digest.update(np.array([len(sequence) for sequence in sequences], np.int64).tobytes())
    for sequence in sequences:
        digest.update(np.asarray(sequence, np.int32).tobytes())
    return digest.hexdigest()[:16]


def small_normal(seed: int) -> Any:
    """Initialiser of embeddings."""
    return tf.keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)


def dense(units: int, seeds: Iterator[int], activation: str | None = None) -> Any:
    """Dense layer with an initialiser of its own seed."""
    initializer = tf.keras.initializers.GlorotUniform(seed=next(seeds))
    return tf.keras.layers.Dense(units, activation=activation, kernel_initializer=initializer)
