"""The training of the retriever: epochs, validation, and checkpoints to resume from.

The loop is our own because a killed run must resume within an epoch and end with the same bytes:
Keras' `BackupAndRestore` saves the model, its optimizer and counters, but not the state of
`EarlyStopping` and the loss so far (and the mean of `use_ema` is another one).
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.checkpoints import whole_checkpoints, write_checkpoint
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.item_statistics import ItemStatistics
from models.retrieval.popularity import Popularity
from models.retrieval.ranking_metrics import TOP, hit_rate, ndcg, rank_of
from models.retrieval.retriever import RetrieverModel, tf
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.training.lazy_adam import LazyAdam
from models.retrieval.training.sequence_shards import RowGroup, row_groups
from models.retrieval.training.training_sequences import (
    COLUMNS,
    Batch,
    Survey,
    batches,
    popularity,
    survey,
)

EVALUATION_SCORES = 1 << 23  # scores (users times items) in memory at once
STEPS = 16  # in a call of TensorFlow, so that no step waits for Python
MEANS = 32  # at most so many updates of the means in an epoch: each takes all weights
AVERAGING = 8.0  # eta of `update_means`: the mean covers about the last tenth of all steps
EPOCHS_ON_EVERYTHING = 3  # after the last one with validation
CHECKPOINT_SECONDS = 600.0  # between checkpoints in an epoch: the work that a kill can cost

Epoch = dict[str, Any]  # epoch [int], loss, HR@10, NDCG@10 [float]


@dataclass(frozen=True)
class Step:
    """The progress of the training."""

    held_out: int  # items: 0 in the training on everything
    epoch: int  # from 1
    epochs: int  # at most
    steps: int  # since the last report
    done: int  # steps of this epoch
    total: int  # steps of this epoch
    loss: float  # mean of this epoch so far


@dataclass(frozen=True)
class Callbacks:
    """Functions that hear of the progress."""

    on_epoch: Callable[[Epoch], None] = lambda row: None  # gets each new row of the history
    on_step: Callable[[Step], None] = lambda step: None
    on_checkpoint: Callable[[], None] = lambda: None


def train_retriever(
    catalogue: Catalogue,
    shards: Sequence[str],
    config: RetrieverConfig,
    checkpoint_dir: Path,
    callbacks: Callbacks = Callbacks(),
) -> tuple[RetrieverModel, list[Epoch]]:
    """Train until validation users stop to gain, then for a few epochs more on everything.

    The last item of some users is held out (`survey`). The training stops `patience` epochs after
    the one with the best NDCG@10. It goes on with all items for `EPOCHS_ON_EVERYTHING`, because the
    newest ones, which were held out, are worth the most. Without validation users all epochs run,
    on everything. The returned history is of the training with validation: epoch (from 1), loss,
    HR@10 and NDCG@10 (NaN without validation users).

    Sequences stream from the local `shards`: two passes before the training, and one for each
    epoch. After each epoch, and every ten minutes within one, the state is checkpointed in a folder
    of `checkpoint_dir` named by a hash of the inputs. Randomness depends only on (seed, epoch) or
    (seed, step): a killed run resumes there and ends with the same weights. TensorFlow uses
    deterministic ops from then on in this process.

    With a GPU, the transformer is trained in bfloat16. Its weights are float32, and the returned
    model computes in float32.

    Raises ValueError if the shards are of another catalogue or have an index outside it, if no user
    has two interactions, or if the loss of an epoch is not finite.
    """
    tf.config.experimental.enable_op_determinism()
    groups = row_groups(shards, catalogue.vocabulary)

    found = survey(groups, len(catalogue.item_ids), config.validation_users)
    if not found.transitions:
        raise ValueError(
            f"none of {found.users} users has two interactions: there is no next item to learn "
            "from; check min_rating and the interactions input"
        )
    training = Training(catalogue, groups, found, config, checkpoint_dir)
    history = training.finish(callbacks)
    if len(found.held_out):
        training.go_on(survey(groups, len(catalogue.item_ids), validation_users=0))
        training.finish(callbacks)
    return training.mean, history


class Training:
    """A training on what a survey does not hold out, which can go on with another survey.

    The evaluated and returned weights are running means (`update_means`), which change less from
    step to step.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        groups: Sequence[RowGroup],
        found: Survey,
        config: RetrieverConfig,
        checkpoint_dir: Path,
    ) -> None:
        self.catalogue, self.groups, self.config = catalogue, groups, config
        self.checkpoint_dir = checkpoint_dir
        past = popularity(groups, len(catalogue.item_ids), found)
        self.statistics = ItemStatistics(found.counts, past.logs)
        self.model = RetrieverModel(config, catalogue, self.statistics, training_dtype())
        self.mean = RetrieverModel(config, catalogue, self.statistics)
        self.model.compile(optimizer=LazyAdam(config.learning_rate))
        self.model.optimizer.build(self.model.trainable_variables)  # to be restored they must exist
        self.done, rows = tf.Variable(0), max(config.epochs, EPOCHS_ON_EVERYTHING)
        self.figures = tf.Variable(tf.fill([rows, 3], tf.constant(np.nan, tf.float64)))
        # Of the epoch in progress:
        self.steps_done, self.loss_so_far = tf.Variable(0), tf.Variable(0.0, dtype=tf.float64)
        self.averaged = tf.Variable(0)  # times that the mean was updated
        self.checkpoint = tf.train.Checkpoint(
            model=self.model,
            mean=self.mean,
            optimizer=self.model.optimizer,
            done=self.done,
            figures=self.figures,
            steps_done=self.steps_done,
            loss_so_far=self.loss_so_far,
            averaged=self.averaged,
        )
        shape = [None, len(COLUMNS), config.batch_size, config.max_length]
        steps = tf.autograph.experimental.do_not_convert(self._steps)  # would take longer
        self._train_steps = tf.function(steps, [tf.TensorSpec(shape, tf.int32)])
        self._resume(found, past, config.epochs)

    def go_on(self, found: Survey) -> None:
        """Go on, when finished, with what another survey does not hold out."""
        past = popularity(self.groups, len(self.catalogue.item_ids), found)
        self.statistics.assign(found.counts, past.logs)
        self.figures.assign(tf.fill(self.figures.shape, tf.constant(np.nan, tf.float64)))
        self.done.assign(0)
        self._resume(found, past, EPOCHS_ON_EVERYTHING)

    def _resume(self, found: Survey, past: Popularity, epochs: int) -> None:
        """Go on from the last checkpoint of a training for at most `epochs`, if there is one."""
        self.found, self.epochs = found, epochs
        self.held_out_snapshots = past.snapshot_at(found.held_out_at)
        name = fingerprint(self.catalogue, found, self.config, epochs)
        self.folder = self.checkpoint_dir / name
        if kept := whole_checkpoints(self.folder):
            state = self.checkpoint.read(str(kept[max(kept)] / "state"))
            state.assert_existing_objects_matched()  # Keras makes metrics later

    def finish(self, callbacks: Callbacks) -> list[Epoch]:
        """Train what is left to train; return the history."""
        while int(self.done) < self.epochs and not finished(self._rows(), self.config):
            self._train_epoch(callbacks)
            epoch = int(self.done)
            loss = float(self.loss_so_far) / self.found.steps(self.config)
            if not np.isfinite(loss):
                raise ValueError(
                    f"the loss of epoch {epoch + 1} is {loss}: learning_rate "
                    f"{self.config.learning_rate} is too high; give a lower one"
                )
            self.figures[epoch].assign([loss, *self._validate()])
            self.done.assign_add(1)
            self.steps_done.assign(0)
            self.loss_so_far.assign(0.0)
            self._save(callbacks)
            callbacks.on_epoch(history_rows(self._rows())[-1])
        return history_rows(self._rows())

    def _train_epoch(self, callbacks: Callbacks) -> None:
        epoch, total = int(self.done), self.found.steps(self.config)
        calls = 1 + total // (STEPS * MEANS)  # of TensorFlow, for each update of the means
        saved = time.monotonic()
        stream = batches(self.groups, self.found, self.config, epoch)
        for chunk in chunks(itertools.islice(stream, int(self.steps_done), None)):
            self._train_steps(tf.constant(chunk))
            done = int(self.steps_done)
            if done == total or done // STEPS % calls == 0:
                self._update_means()
            callbacks.on_step(
                Step(
                    held_out=len(self.found.held_out),
                    epoch=epoch + 1,
                    epochs=self.epochs,
                    steps=len(chunk),
                    done=done,
                    total=total,
                    loss=float(self.loss_so_far) / done,
                )
            )
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                self._save(callbacks)
                saved = time.monotonic()

    def _save(self, callbacks: Callbacks) -> None:
        write_checkpoint(self.folder, lambda path: self.checkpoint.write(str(path / "state")))
        callbacks.on_checkpoint()

    def _steps(self, chunk: tf.Tensor) -> None:
        """Train on `chunk` [steps, columns, batch_size, max_length]."""

        def train(step: tf.Tensor) -> tuple[tf.Tensor]:
            columns = dict(zip(COLUMNS, tf.unstack(chunk[step]), strict=True))
            loss = self.model.train_step(columns)["loss"]
            self.loss_so_far.assign_add(tf.cast(loss, tf.float64))
            self.steps_done.assign_add(1)
            return (step + 1,)

        tf.while_loop(lambda step: step < tf.shape(chunk)[0], train, [0])

    def _update_means(self) -> None:
        self.averaged.assign_add(1)
        update_means(self.mean.variables, self.model.variables, self.averaged)

    def _rows(self) -> NDArray[np.float64]:
        """Return the figures [epochs that are done, 3]."""
        return self.figures.numpy()[: int(self.done)]

    def _validate(self) -> tuple[float, float]:
        """Return HR@10 and NDCG@10, NaN if nothing is held out."""
        if not self.found.held_out.size:
            return float("nan"), float("nan")
        return evaluate(
            self.mean, self.found.histories, self.found.held_out, self.held_out_snapshots
        )


def chunks(stream: Iterator[Batch]) -> Iterator[NDArray[np.int32]]:
    """Stack batches, `STEPS` at a time."""
    while some := list(itertools.islice(stream, STEPS)):
        yield np.stack(some)


def training_dtype() -> str:
    """Return the compute dtype of the training: bfloat16 if TensorFlow sees a GPU."""
    return "mixed_bfloat16" if tf.config.list_physical_devices("GPU") else "float32"


def update_means(
    means: Sequence[tf.Variable], variables: Sequence[tf.Variable], step: tf.Tensor
) -> None:
    """Update the running means of variables for the t-th time, from 1.

    Polynomial-decay averaging (Shamir & Zhang, "Stochastic Gradient Descent for Non-smooth
    Optimization", ICML 2013): mean += (eta + 1) / (t + eta) * (variable - mean). The first values
    are the first mean; the longer the training, the more steps the mean covers.
    """
    share = (AVERAGING + 1) / (tf.cast(step, tf.float32) + AVERAGING)
    for mean, variable in zip(means, variables, strict=True):
        mean.assign_add(share * (variable - mean))


def finished(figures: NDArray[np.float64], config: RetrieverConfig) -> bool:
    """Say whether the NDCG@10 of epochs with figures [epochs, 3] has stopped improving."""
    gain = figures[:, 2]
    if not len(gain) or np.isnan(gain[0]):
        return False
    return bool(len(gain) - 1 - np.argmax(gain) >= config.patience)


def history_rows(figures: NDArray[np.float64]) -> list[Epoch]:
    """Return figures [epochs, 3] as named rows."""
    return [
        {"epoch": epoch, "loss": float(loss), f"HR@{TOP}": float(hits), f"NDCG@{TOP}": float(gain)}
        for epoch, (loss, hits, gain) in enumerate(figures, start=1)
    ]


def evaluate(
    model: RetrieverModel,
    histories: Sequence[NDArray[np.int32]],
    held_out: NDArray[np.int32],
    snapshots: NDArray[np.int32],
) -> tuple[float, float]:
    """Return HR@10 and NDCG@10 of the held-out items, as `rank_of`, by popularity in snapshots."""
    items = tf.range(model.statistics.size)
    rows = max(1, EVALUATION_SCORES // len(items))
    ranks = []
    for start in range(0, len(histories), rows):
        part = slice(start, start + rows)
        scores = model.scores(encode(model, histories[part]), snapshots[part], items, None)
        ranks.append(rank_of(scores.numpy(), histories[part], held_out[part]))
    rank = np.concatenate(ranks)
    return hit_rate(rank), ndcg(rank)


def encode(model: RetrieverModel, histories: Sequence[NDArray[np.int32]]) -> tf.Tensor:
    """Return the queries [users, dimension + H] of the users' histories, oldest item first."""
    most = model.config.max_length
    items = tf.keras.utils.pad_sequences(histories, most, padding="post", truncating="pre")
    lengths = [min(len(history), most) for history in histories]
    return _queries(model, tf.constant(items), tf.constant(lengths))


@tf.function(reduce_retracing=True)
def _queries(model: RetrieverModel, items: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    return model.query(model.items(items)[..., : model.config.dimension], lengths)


def fingerprint(catalogue: Catalogue, found: Survey, config: RetrieverConfig, epochs: int) -> str:
    """Return a hash of the inputs that decide the weights."""
    held_out = str(len(found.held_out))
    shape = str(catalogue.features.shape)
    parts = (repr(config), catalogue.vocabulary, found.digest, held_out, str(epochs), shape)
    digest = hashlib.sha256("\n".join(parts).encode())
    digest.update(np.ascontiguousarray(catalogue.features, np.float32).tobytes())
    return digest.hexdigest()[:16]
