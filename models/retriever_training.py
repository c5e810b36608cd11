"""The training of the retriever: epochs, validation, and checkpoints that it resumes from."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.item_catalogue import Catalogue
from models.ranking_metrics import TOP, rank_of
from models.retriever import RetrieverModel, tf
from models.retriever_config import RetrieverConfig
from models.training_sequences import batches, hold_out, latest

EVALUATION_ROWS = 256  # users scored against the whole catalogue at once

Epoch = dict[str, Any]  # epoch [int], loss, HR@10, NDCG@10 [float]


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

    model = RetrieverModel(config, catalogue, counts)
    best = RetrieverModel(config, catalogue, counts)
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
