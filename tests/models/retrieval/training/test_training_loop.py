"""Training: what it learns, that it resumes exactly, that it stops."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.retrieval.item_catalogue import Catalogue
from models.retrieval.retriever import RetrieverModel, tf
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.training import training_loop
from models.retrieval.training.sequence_shards import row_groups
from models.retrieval.training.training_loop import (
    AVERAGING,
    Epoch,
    Step,
    evaluate,
    train_retriever,
    update_means,
)
from models.retrieval.training.training_sequences import survey
from tests.models.retrieval.small_retriever import ITEMS, SMALL, catalogue, ring, write_shards


def weights(model: RetrieverModel) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.variables]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_shards(tmp_path_factory.mktemp("shards"), ring())


@dataclass(frozen=True)
class Whole:
    """An undisturbed training with the settings SMALL."""

    folder: Path  # of its checkpoints
    model: RetrieverModel
    history: list[Epoch]
    steps: list[Step]


@pytest.fixture(scope="module")
def whole(shards: list[str], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder, steps = tmp_path_factory.mktemp("whole"), []
    config = RetrieverConfig(**SMALL)
    trained = train_retriever(catalogue(), shards, config, folder, ignore, steps.append)
    return Whole(folder, *trained, steps)


def ignore(row: Epoch) -> None:
    pass


def test_learns_what_comes_next(shards: list[str], tmp_path: Path) -> None:
    config = RetrieverConfig(**SMALL | {"epochs": 15, "learning_rate": 1e-2, "dropout": 0.0})
    _, history = train_retriever(catalogue(), shards, config, tmp_path, ignore)
    # By popularity 10 of the 32 items outside a history hit by chance, far from 0.9.
    assert max(row["HR@10"] for row in history) > 0.9


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
        train_retriever(catalogue(), shards, config, tmp_path, ignore)


def test_interrupted_training_ends_with_the_same_weights(
    whole: Whole, shards: list[str], tmp_path: Path
) -> None:
    config = RetrieverConfig(**SMALL)
    seen = []

    def stop(row: Epoch) -> None:
        seen.append(row)
        if len(seen) < 3:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_retriever(catalogue(), shards, config, tmp_path, stop)
    resumed, resumed_history = train_retriever(catalogue(), shards, config, tmp_path, stop)

    assert seen == resumed_history == whole.history
    for one, other in zip(weights(whole.model), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_goes_on_within_an_epoch(
    whole: Whole, shards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RetrieverConfig(**SMALL)
    total = whole.steps[0].total
    assert total >= 3
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0.0)
    kept: list[None] = []

    def stop() -> None:
        kept.append(None)
        if len(kept) == total + 3:  # in the second epoch; one is kept after the first
            raise KeyboardInterrupt

    def train(*of_progress: Any) -> tuple[RetrieverModel, list[Epoch]]:
        return train_retriever(catalogue(), shards, config, tmp_path, ignore, *of_progress)

    with pytest.raises(KeyboardInterrupt):
        train(lambda step: None, stop)
    steps: list[Step] = []
    resumed, resumed_history = train(steps.append)
    assert (steps[0].epoch, steps[0].done) == (2, 3)
    assert [step.loss for step in steps] == [step.loss for step in whole.steps[-len(steps) :]]
    assert resumed_history == whole.history
    for one, other in zip(weights(whole.model), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_finished_training_is_not_repeated(whole: Whole, shards: list[str], tmp_path: Path) -> None:
    folder, rows = shutil.copytree(whole.folder, tmp_path / "copy"), []
    again, same = train_retriever(
        catalogue(), shards, RetrieverConfig(**SMALL), folder, rows.append
    )
    assert (rows, same) == ([], whole.history)
    for one, other in zip(weights(whole.model), weights(again), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["state.index", "state.data-00000-of-00001", "checksums.json"])
@pytest.mark.parametrize("damaged", ["last", "both"])
def test_a_damaged_checkpoint_is_dropped_for_the_one_before_or_the_start(
    whole: Whole, shards: list[str], tmp_path: Path, caplog: Any, name: str, damaged: str
) -> None:
    folder, rows = shutil.copytree(whole.folder, tmp_path / "copy"), []
    checkpoints = sorted(folder.glob("*/checkpoint-*"))
    assert [path.name for path in checkpoints] == ["checkpoint-2", "checkpoint-3"]
    for checkpoint in checkpoints[-1 if damaged == "last" else 0 :]:
        content = bytearray((checkpoint / name).read_bytes())
        content[len(content) // 2] ^= 1
        (checkpoint / name).write_bytes(content)
    again, same = train_retriever(
        catalogue(), shards, RetrieverConfig(**SMALL), folder, rows.append
    )
    assert caplog.text.count("is unfinished or damaged") == (1 if damaged == "last" else 2)
    assert [row["epoch"] for row in rows] == ([3] if damaged == "last" else [1, 2, 3])
    assert same == whole.history
    for one, other in zip(weights(whole.model), weights(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_checkpoints_of_other_inputs_are_not_taken_up(shards: list[str], tmp_path: Path) -> None:
    config = RetrieverConfig(**SMALL | {"epochs": 1})
    train_retriever(catalogue(), shards, config, tmp_path, ignore)
    rows: list[Epoch] = []
    others = write_shards(tmp_path / "others", ring(seed=1))
    train_retriever(catalogue(), others, config, tmp_path, rows.append)
    assert [row["epoch"] for row in rows] == [1]


def test_seed_decides_the_weights(whole: Whole, shards: list[str], tmp_path: Path) -> None:
    config = RetrieverConfig(**SMALL | {"seed": 1})
    assert config.seed != RetrieverConfig(**SMALL).seed
    folder = shutil.copytree(whole.folder, tmp_path / "copy")  # whose checkpoints do not fit
    other, _ = train_retriever(catalogue(), shards, config, folder, ignore)
    assert np.any(weights(whole.model)[0] != weights(other)[0])


def test_stops_early_and_keeps_the_best_weights(shards: list[str], tmp_path: Path) -> None:
    # So high a learning rate soon makes things worse.
    config = RetrieverConfig(**SMALL | {"epochs": 30, "patience": 2, "learning_rate": 0.3})
    model, history = train_retriever(catalogue(), shards, config, tmp_path, ignore)
    ndcg = [row["NDCG@10"] for row in history]
    assert len(ndcg) == int(np.argmax(ndcg)) + 1 + config.patience < config.epochs
    found = survey(row_groups(shards, catalogue().vocabulary), ITEMS, config)
    assert evaluate(model, found.histories, found.held_out)[1] == pytest.approx(max(ndcg))


def test_trains_without_users_to_validate_on(tmp_path: Path) -> None:
    config = RetrieverConfig(**SMALL)
    pairs = write_shards(tmp_path / "shards", [sequence[:2] for sequence in ring()])
    model, history = train_retriever(catalogue(), pairs, config, tmp_path, ignore)
    assert len(history) == config.epochs
    assert all(np.isnan(row["NDCG@10"]) for row in history)
    start = RetrieverModel(config, catalogue(), np.ones(ITEMS, np.int64))
    assert np.any(weights(model)[0] != weights(start)[0])


@pytest.mark.parametrize("sequences", [[], [np.array([3]), np.array([4])]])
def test_no_user_with_two_interactions_is_an_error(
    tmp_path: Path, sequences: list[np.ndarray]
) -> None:
    shards = write_shards(tmp_path / "shards", sequences)
    with pytest.raises(ValueError, match=f"none of {len(sequences)} users has two interactions"):
        train_retriever(catalogue(), shards, RetrieverConfig(**SMALL), tmp_path, ignore)


def test_item_outside_the_catalogue_is_an_error(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", [np.array([0, ITEMS])])
    with pytest.raises(ValueError, match=f"0 to {ITEMS} in the sequences"):
        train_retriever(catalogue(), shards, RetrieverConfig(**SMALL), tmp_path, ignore)


def test_shards_of_another_catalogue_are_an_error(shards: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other items or clusters"):
        train_retriever(catalogue(41), shards, RetrieverConfig(**SMALL), tmp_path, ignore)


def test_each_step_is_told_with_the_mean_loss_so_far(whole: Whole) -> None:
    steps = whole.steps
    assert [(step.epoch, step.done) for step in steps] == [
        (epoch, done) for epoch in (1, 2, 3) for done in range(1, steps[0].total + 1)
    ]
    assert [step.loss for step in steps if step.done == step.total] == [
        row["loss"] for row in whole.history
    ]


def test_rows_of_an_evaluation_do_not_change_it(
    whole: Whole, shards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = survey(row_groups(shards, catalogue().vocabulary), ITEMS, RetrieverConfig(**SMALL))
    figures = []
    for scores in (ITEMS, 7 * ITEMS, 1000 * ITEMS):
        monkeypatch.setattr(training_loop, "EVALUATION_SCORES", scores)
        figures.append(evaluate(whole.model, found.histories, found.held_out))
    np.testing.assert_allclose(figures[1:], [figures[0]] * 2)


def test_mixed_precision_learns_in_bfloat16_and_answers_in_float32(
    shards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "training_dtype", lambda: "mixed_bfloat16")
    config = RetrieverConfig(**SMALL | {"epochs": 15, "learning_rate": 1e-2, "dropout": 0.0})
    computed = set()

    class Spied(RetrieverModel):
        def compute_loss(self, *inputs: Any, **options: Any) -> Any:
            computed.add(self.queries.blocks[0].qkv.compute_dtype)
            return super().compute_loss(*inputs, **options)

    monkeypatch.setattr(training_loop, "RetrieverModel", Spied)
    model, history = train_retriever(catalogue(), shards, config, tmp_path, ignore)
    assert computed == {"bfloat16"}
    assert max(row["HR@10"] for row in history) > 0.9
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    vectors = model.items(tf.range(ITEMS))
    query = model.query(vectors[None, :8, :-1], tf.constant([8]))
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
    model, _ = train_retriever(items, paths, config, tmp_path, ignore)

    vectors = model.items(tf.range(len(topic)))
    histories = np.stack(users[:topics])  # one of each topic
    queries = model.query(tf.gather(vectors, histories)[..., :-1], tf.fill([topics], 8))
    scores = tf.matmul(queries, vectors, transpose_b=True).numpy()[:, is_new]
    best = np.argsort(-scores, axis=1)[:, :new]  # of the new items
    np.testing.assert_array_equal(topic[is_new][best], np.tile(np.arange(topics)[:, None], new))
