"""The training of the retriever: epochs, validation, and checkpoints to resume from.

The loop is our own because a killed run must resume within an epoch and end with the same bytes:
Keras' `BackupAndRestore` saves the model, its optimizer and counters, but not the state of
`EarlyStopping`, the best weights and the loss so far (and the mean of `use_ema` is another one).
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.checkpoints import whole_checkpoints, write_checkpoint
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.ranking_metrics import TOP, hit_rate, ndcg, rank_of
from models.retrieval.retriever import RetrieverModel, tf
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.training.sequence_shards import row_groups
from models.retrieval.training.training_sequences import Survey, batches, survey

EVALUATION_SCORES = 1 << 25  # scores (users times items) in memory at once
AVERAGING = 8.0  # eta of `update_means`: the mean covers about the last tenth of all steps
CHECKPOINT_SECONDS = 600.0  # between checkpoints in an epoch: the work that a kill can cost

Epoch = dict[str, Any]  # epoch [int], loss, HR@10, NDCG@10 [float]


@dataclass(frozen=True)
class Step:
    """The progress of the training."""

    epoch: int  # from 1
    done: int  # steps of this epoch
    total: int  # steps of this epoch
    loss_sum: tf.Tensor  # scalar float64, over the steps that are done

    @property
    def loss(self) -> float:
        """Mean loss of this epoch so far. Reading it waits for a GPU."""
        return float(self.loss_sum) / self.done


def train_retriever(
    catalogue: Catalogue,
    shards: Sequence[str],
    config: RetrieverConfig,
    checkpoint_dir: Path,
    on_epoch: Callable[[Epoch], None],
    on_step: Callable[[Step], None] = lambda step: None,
    on_checkpoint: Callable[[], None] = lambda: None,
) -> tuple[RetrieverModel, list[Epoch]]:
    """Train until the validation NDCG@10 stops improving; return the model and the history.

    Sequences stream from the local `shards`: one pass surveys them, and each epoch is one more. The
    last item of some users is held out for validation (`survey`), and the weights of the best epoch
    are kept. Without validation users all epochs run and the last weights are kept. The evaluated
    and kept weights are running means (`update_means`), which change less from step to step. Users
    with one item count for popularity.

    After each epoch, and every ten minutes within one, the state is checkpointed in a folder of
    `checkpoint_dir` named by a hash of the inputs. Randomness depends only on (seed, epoch) or
    (seed, step): a killed run resumes there and ends with the same weights. `on_epoch` gets each
    new row of the history after its checkpoint: epoch (from 1), loss, HR@10 and NDCG@10 (NaN
    without validation users). TensorFlow uses deterministic ops from then on in this process.

    With a GPU, the transformer is trained in bfloat16. Its weights are float32, and the returned
    model, the mean, computes in float32.

    Raises ValueError if the shards are of another catalogue or have an index outside it, if no user
    has two interactions, or if the loss of an epoch is not finite.
    """
    tf.config.experimental.enable_op_determinism()
    groups = row_groups(shards, catalogue.vocabulary)
    found = survey(groups, len(catalogue.item_ids), config)
    if not found.transitions:
        raise ValueError(
            f"none of {found.users} users has two interactions: there is no next item to learn "
            "from; check min_rating and the interactions input"
        )

    model = RetrieverModel(config, catalogue, found.counts, training_dtype())
    mean = RetrieverModel(config, catalogue, found.counts)
    best = [tf.Variable(variable) for variable in mean.variables]
    model.compile(optimizer=tf.keras.optimizers.Adam(config.learning_rate))
    model.optimizer.build(model.trainable_variables)  # its slots must exist to be restored

    @tf.function
    def train_step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        loss = model.train_step(batch)["loss"]
        update_means(mean.variables, model.variables, model.optimizer.iterations)
        return loss

    done = tf.Variable(0, dtype=tf.int32)
    # Of the epoch in progress:
    steps_done, loss_so_far = tf.Variable(0), tf.Variable(0.0, dtype=tf.float64)
    figures = tf.Variable(tf.fill([config.epochs, 3], tf.constant(np.nan, tf.float64)))
    state = tf.train.Checkpoint(
        model=model,
        mean=mean,
        best=best,
        optimizer=model.optimizer,
        done=done,
        steps_done=steps_done,
        loss_so_far=loss_so_far,
        figures=figures,
    )
    folder = checkpoint_dir / fingerprint(catalogue, found, config)
    if kept := whole_checkpoints(folder):
        state.read(str(kept[max(kept)] / "state")).assert_consumed()
    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        write_checkpoint(folder, lambda path: state.write(str(path / "state")))
        on_checkpoint()
        saved = time.monotonic()

    steps = found.steps(config)
    while not finished(figures.numpy()[: int(done)], config):
        epoch, skipped = int(done), int(steps_done)
        loss_sum = loss_so_far.read_value()
        stream = itertools.islice(batches(groups, found.limit, config, epoch), skipped, None)
        for step, batch in enumerate(stream, start=skipped + 1):
            tensors = {name: tf.constant(value) for name, value in batch.items()}
            loss_sum += tf.cast(train_step(tensors), tf.float64)
            on_step(Step(epoch + 1, step, steps, loss_sum))
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                steps_done.assign(step)
                loss_so_far.assign(loss_sum)
                save()
        if not np.isfinite(float(loss_sum)):
            raise ValueError(
                f"the loss of epoch {epoch + 1} is {float(loss_sum)}: learning_rate "
                f"{config.learning_rate} is too high; give a lower one"
            )
        hits, gain = evaluate(mean, found.histories, found.held_out)
        earlier = figures.numpy()[:epoch, 2]
        if not found.held_out.size or not epoch or gain > np.max(earlier):
            assign(best, mean.variables)
        figures[epoch].assign([float(loss_sum) / steps, hits, gain])
        done.assign_add(1)
        steps_done.assign(0)
        loss_so_far.assign(0.0)
        save()
        on_epoch(history_rows(figures.numpy()[: epoch + 1])[-1])
    assign(mean.variables, best)
    return mean, history_rows(figures.numpy()[: int(done)])


def training_dtype() -> str:
    """Return the compute dtype of the training: bfloat16 if TensorFlow sees a GPU."""
    return "mixed_bfloat16" if tf.config.list_physical_devices("GPU") else "float32"


def update_means(
    means: Sequence[tf.Variable], variables: Sequence[tf.Variable], step: tf.Tensor
) -> None:
    """Update the running means of variables after step t, from 1.

    Polynomial-decay averaging (Shamir & Zhang, "Stochastic Gradient Descent for Non-smooth
    Optimization", ICML 2013): mean += (eta + 1) / (t + eta) * (variable - mean). The first step's
    values are the first mean; the longer the training, the more steps the mean covers.
    """
    share = (AVERAGING + 1) / (tf.cast(step, tf.float32) + AVERAGING)
    for mean, variable in zip(means, variables, strict=True):
        mean.assign_add(share * (variable - mean))


def assign(targets: Sequence[tf.Variable], sources: Sequence[tf.Variable]) -> None:
    """Copy the values of variables."""
    for target, source in zip(targets, sources, strict=True):
        target.assign(source)


def finished(figures: NDArray[np.float64], config: RetrieverConfig) -> bool:
    """Say whether training is over after epochs with figures [epochs, 3]."""
    if len(figures) in (0, config.epochs):
        return len(figures) == config.epochs
    gain = figures[:, 2]
    return bool(len(gain) - 1 - np.argmax(gain) >= config.patience and not np.isnan(gain[0]))


def history_rows(figures: NDArray[np.float64]) -> list[Epoch]:
    """Return figures [epochs, 3] as named rows."""
    return [
        {"epoch": epoch, "loss": float(loss), f"HR@{TOP}": float(hits), f"NDCG@{TOP}": float(gain)}
        for epoch, (loss, hits, gain) in enumerate(figures, start=1)
    ]


def evaluate(
    model: RetrieverModel, histories: Sequence[NDArray[np.int32]], held_out: NDArray[np.int32]
) -> tuple[float, float]:
    """Return HR@10 and NDCG@10 of the held-out items, as `rank_of`; NaN without users."""
    if not held_out.size:
        return float("nan"), float("nan")
    vectors = model.items(tf.range(len(model.share)))  # [items, dimension + 1]
    rows = max(1, EVALUATION_SCORES // len(vectors))
    ranks = []
    for start in range(0, len(histories), rows):
        part = slice(start, start + rows)
        queries = encode(model, histories[part])
        scores = tf.matmul(queries, vectors, transpose_b=True).numpy()  # [batch, items]
        ranks.append(rank_of(scores, histories[part], held_out[part]))
    rank = np.concatenate(ranks)
    return hit_rate(rank), ndcg(rank)


def encode(model: RetrieverModel, histories: Sequence[NDArray[np.int32]]) -> tf.Tensor:
    """Return the queries [users, dimension + 1] of the users' histories, oldest item first."""
    most = model.config.max_length
    items = tf.keras.utils.pad_sequences(histories, most, padding="post", truncating="pre")
    lengths = [min(len(history), most) for history in histories]
    return _queries(model, tf.constant(items), tf.constant(lengths))


@tf.function(reduce_retracing=True)
def _queries(model: RetrieverModel, items: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    return model.query(model.items(items)[..., :-1], lengths)


def fingerprint(catalogue: Catalogue, found: Survey, config: RetrieverConfig) -> str:
    """Return a hash of the inputs that decide the weights."""
    parts = (repr(config), catalogue.vocabulary, found.digest, str(catalogue.features.shape))
    digest = hashlib.sha256("\n".join(parts).encode())
    digest.update(np.ascontiguousarray(catalogue.features, np.float32).tobytes())
    return digest.hexdigest()[:16]
