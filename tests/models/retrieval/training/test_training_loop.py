"""Training: what it learns, that it resumes exactly, that it stops."""

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common.checkpoints import whole_checkpoints
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.item_statistics import ItemStatistics
from models.retrieval.retriever import RetrieverModel, tf
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.training import training_loop
from models.retrieval.training.sequence_shards import row_groups
from models.retrieval.training.training_loop import (
    AVERAGING,
    EPOCHS_ON_EVERYTHING,
    Callbacks,
    Epoch,
    Step,
    evaluate,
    fingerprint,
    train_retriever,
    update_means,
)
from models.retrieval.training.training_sequences import survey
from tests.models.retrieval.small_retriever import (
    ITEMS,
    SMALL,
    catalogue,
    ring,
    write_shards,
)


def weights(model: RetrieverModel) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.variables]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_shards(tmp_path_factory.mktemp("shards"), ring())


@dataclass(frozen=True)
class Whole:
    """An undisturbed training with `CONFIG`."""

    folder: Path  # of its checkpoints
    model: RetrieverModel
    history: list[Epoch]
    steps: list[Step]


# Users walk a ring, so the next item can be learned.
CONFIG = RetrieverConfig(**SMALL | {"epochs": 15, "learning_rate": 1e-2, "dropout": 0.0})


@pytest.fixture(scope="module")
def whole(shards: list[str], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder, steps = tmp_path_factory.mktemp("whole"), []
    callbacks = Callbacks(on_step=steps.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_loop, "STEPS", 2)
        trained = train_retriever(catalogue(), shards, CONFIG, folder, callbacks)
    return Whole(folder, *trained, steps)


def test_learns_what_comes_next(whole: Whole) -> None:
    # By popularity 10 of the 32 items outside a history hit by chance, far from 0.9.
    assert max(row["HR@10"] for row in whole.history) > 0.9


def test_the_running_mean_weighs_late_values_most() -> None:
    values = np.random.default_rng(0).normal(size=30).astype(np.float32)
    mean, variable = tf.Variable(5.0), tf.Variable(0.0)
    for step, value in enumerate(values.tolist(), start=1):
        variable.assign(value)
        update_means([mean], [variable], tf.constant(step, tf.int64))
    # Written out: the weight of step t grows with t^eta, (t + eta - 1)! / (t - 1)!.
    weight = np.array(
        [math.prod(range(t, t + int(AVERAGING))) for t in range(1, len(values) + 1)], float
    )
    assert float(mean) == pytest.approx(np.average(values, weights=weight), abs=1e-5)


def test_training_that_diverges_is_an_error(shards: list[str], tmp_path: Path) -> None:
    config = RetrieverConfig(**SMALL | {"learning_rate": 1e30})
    with pytest.raises(ValueError, match=r"epoch 1 is .*: learning_rate 1e\+30 is too high"):
        train_retriever(catalogue(), shards, config, tmp_path)


def best_epoch(history: list[Epoch]) -> int:
    return 1 + int(np.argmax([row["NDCG@10"] for row in history]))


def test_training_that_was_killed_again_and_again_ends_with_the_same_weights(
    whole: Whole, shards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed within the second epoch, and in the training on everything."""
    monkeypatch.setattr(training_loop, "STEPS", 2)
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0.0)
    calls = math.ceil(whole.steps[0].total / 2)  # of an epoch, and one checkpoint more
    kept: list[None] = []
    steps: list[Step] = []
    rows: list[Epoch] = []

    def die_in_the_second_epoch() -> None:
        kept.append(None)
        if len(kept) == calls + 3:
            raise KeyboardInterrupt

    def die_on_everything(row: Epoch) -> None:
        rows.append(row)
        if math.isnan(row["NDCG@10"]):
            raise KeyboardInterrupt

    def train(callbacks: Callbacks) -> tuple[RetrieverModel, list[Epoch]]:
        return train_retriever(catalogue(), shards, CONFIG, tmp_path, callbacks)

    with pytest.raises(KeyboardInterrupt):
        train(Callbacks(on_checkpoint=die_in_the_second_epoch))
    with pytest.raises(KeyboardInterrupt):
        train(Callbacks(die_on_everything, steps.append))
    resumed, history = train(Callbacks(rows.append))

    assert (steps[0].epoch, steps[0].done) == (2, 6)
    assert [row["epoch"] for row in rows] == [
        *range(2, len(history) + 1),
        *range(1, EPOCHS_ON_EVERYTHING + 1),
    ]
    assert history == whole.history
    for one, other in zip(weights(whole.model), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_finished_training_is_not_repeated(whole: Whole, shards: list[str], tmp_path: Path) -> None:
    folder, rows = shutil.copytree(whole.folder, tmp_path / "copy"), []
    again, same = train_retriever(catalogue(), shards, CONFIG, folder, Callbacks(rows.append))
    assert (rows, same) == ([], whole.history)
    for one, other in zip(weights(whole.model), weights(again), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "damaged"), [("state.data-00000-of-00001", "last"), ("checksums.json", "all")]
)
def test_a_damaged_checkpoint_is_dropped_for_the_one_before_or_the_start(
    whole: Whole,
    shards: list[str],
    tmp_path: Path,
    caplog: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    damaged: str,
) -> None:
    monkeypatch.setattr(training_loop, "STEPS", 2)
    folder = shutil.copytree(whole.folder, tmp_path / "copy")
    victims = []
    for run in folder.iterdir():
        found = sorted(whole_checkpoints(run).items())
        assert len(found) <= 2
        victims += [path for _, path in found[-1 if damaged == "last" else 0 :]]
    for checkpoint in victims:
        content = bytearray((checkpoint / name).read_bytes())
        content[len(content) // 2] ^= 1
        (checkpoint / name).write_bytes(content)
    again, same = train_retriever(catalogue(), shards, CONFIG, folder)
    assert caplog.text.count("is unfinished or damaged") == len(victims)
    assert same == whole.history
    for one, other in zip(weights(whole.model), weights(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_checkpoints_are_of_the_inputs_that_decide_the_weights(
    shards: list[str], tmp_path: Path
) -> None:
    others = write_shards(tmp_path / "others", ring(seed=1))
    surveys = [
        survey(row_groups(paths, catalogue().vocabulary), ITEMS, validation_users)
        for paths in (shards, others)
        for validation_users in (0, 20)
    ]
    inputs = [(found, CONFIG, 3) for found in surveys]
    inputs += [(surveys[0], replace(CONFIG, seed=1), 3), (surveys[0], CONFIG, 4)]
    assert len({fingerprint(catalogue(), *given) for given in inputs}) == len(inputs)


def test_goes_on_with_everything_when_validation_stops_to_gain(
    shards: list[str], tmp_path: Path
) -> None:
    # So high a learning rate soon makes things worse.
    config = RetrieverConfig(**SMALL | {"epochs": 30, "patience": 2, "learning_rate": 0.3})
    steps: list[Step] = []
    callbacks = Callbacks(on_step=steps.append)
    _, history = train_retriever(catalogue(), shards, config, tmp_path, callbacks)
    assert len(history) == best_epoch(history) + config.patience < config.epochs
    everything = [step for step in steps if not step.held_out]
    assert {step.epochs for step in everything} == {EPOCHS_ON_EVERYTHING}
    assert everything[0].total > steps[0].total


def test_trains_without_users_to_validate_on(tmp_path: Path) -> None:
    config = RetrieverConfig(**SMALL)
    pairs = write_shards(tmp_path / "shards", [sequence[:2] for sequence in ring()])
    model, history = train_retriever(catalogue(), pairs, config, tmp_path)
    assert len(history) == config.epochs
    assert all(np.isnan(row["NDCG@10"]) for row in history)
    ones = np.ones(ITEMS, np.int64)
    start = RetrieverModel(config, catalogue(), ItemStatistics.timeless(ones))
    assert np.any(weights(model)[0] != weights(start)[0])


@pytest.mark.parametrize("sequences", [[], [np.array([3]), np.array([4])]])
def test_no_user_with_two_interactions_is_an_error(
    tmp_path: Path, sequences: list[np.ndarray]
) -> None:
    shards = write_shards(tmp_path / "shards", sequences)
    with pytest.raises(ValueError, match=f"none of {len(sequences)} users has two interactions"):
        train_retriever(catalogue(), shards, RetrieverConfig(**SMALL), tmp_path)


def test_item_outside_the_catalogue_is_an_error(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", [np.array([0, ITEMS])])
    with pytest.raises(ValueError, match=f"0 to {ITEMS} in the sequences"):
        train_retriever(catalogue(), shards, RetrieverConfig(**SMALL), tmp_path)


def test_shards_of_another_catalogue_are_an_error(shards: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other items or clusters"):
        train_retriever(catalogue(41), shards, RetrieverConfig(**SMALL), tmp_path)


def test_each_step_is_told_with_the_mean_loss_so_far(whole: Whole) -> None:
    steps = [step for step in whole.steps if step.held_out]
    total, epochs = steps[0].total, len(whole.history)
    assert [(step.epoch, step.done) for step in steps] == [
        (1 + epoch, min(done, total)) for epoch in range(epochs) for done in range(2, total + 2, 2)
    ]
    assert [step.loss for step in steps if step.done == step.total] == [
        row["loss"] for row in whole.history
    ]


def test_rows_of_an_evaluation_do_not_change_it(
    whole: Whole, shards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = survey(row_groups(shards, catalogue().vocabulary), ITEMS, validation_users=20)
    snapshots = np.arange(len(found.held_out), dtype=np.int32) % 3
    figures = []
    for scores in (ITEMS, 7 * ITEMS, 1000 * ITEMS):
        monkeypatch.setattr(training_loop, "EVALUATION_SCORES", scores)
        figures.append(evaluate(whole.model, found.histories, found.held_out, snapshots))
    np.testing.assert_allclose(figures[1:], [figures[0]] * 2)


def test_mixed_precision_learns_in_bfloat16_and_answers_in_float32(
    shards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "training_dtype", lambda: "mixed_bfloat16")
    computed = set()

    class Spied(RetrieverModel):
        def compute_loss(self, *inputs: Any, **options: Any) -> Any:
            computed.add(self.queries.blocks[0].qkv.compute_dtype)
            return super().compute_loss(*inputs, **options)

    monkeypatch.setattr(training_loop, "RetrieverModel", Spied)
    model, history = train_retriever(catalogue(), shards, CONFIG, tmp_path)
    assert computed == {"bfloat16"}
    assert max(row["HR@10"] for row in history) > 0.9
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    vectors = model.items(tf.range(ITEMS))
    query = model.query(vectors[None, :8, :16], tf.constant([8]))
    assert (vectors.dtype, query.dtype) == (tf.float32, tf.float32)
    assert model.queries.blocks[0].qkv.compute_dtype == "float32"
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_items_that_nobody_engaged_with_are_ranked_by_their_features(tmp_path: Path) -> None:
    """Users keep to a topic; ten items of each are known, and five are new."""
    topics, known, new = 4, 10, 5
    rng = np.random.default_rng(0)
    topic = np.repeat(np.arange(topics), known + new)
    is_new = np.tile(np.arange(known + new) >= known, topics)
    features = np.eye(topics)[topic] + 0.1 * rng.normal(size=[len(topic), topics])
    items = Catalogue(
        np.array([f"item {number}" for number in range(len(topic))]),
        np.zeros(len(topic), np.int32),  # the cluster tells nothing
        np.ones(len(topic), bool),
        features.astype(np.float32),
    )
    users = [
        rng.choice(np.flatnonzero((topic == user % topics) & ~is_new), 8, replace=False)
        for user in range(80)
    ]
    config = RetrieverConfig(**SMALL | {"epochs": 20, "patience": 20, "learning_rate": 1e-2})
    paths = write_shards(tmp_path / "shards", users, items=items)
    model, _ = train_retriever(items, paths, config, tmp_path)

    vectors = model.items(tf.range(len(topic)))
    histories = np.stack(users[:topics])  # one of each topic
    queries = model.query(tf.gather(vectors, histories)[..., :16], tf.fill([topics], 8))
    scores = tf.matmul(queries, vectors, transpose_b=True).numpy()[:, is_new]
    best = np.argsort(-scores, axis=1)[:, :new]  # of the new items
    np.testing.assert_array_equal(topic[is_new][best], np.tile(np.arange(topics)[:, None], new))
