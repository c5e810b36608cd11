"""Training: what it learns, that it resumes exactly, that it stops."""

from pathlib import Path

import numpy as np
import pytest

from models.retriever import RetrieverModel
from models.retriever_config import RetrieverConfig
from models.retriever_training import Epoch, evaluate, train_retriever
from models.training_sequences import hold_out
from tests.models.small_retriever import ITEMS, SMALL, catalogue, ring


def weights(model: RetrieverModel) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.variables]


def ignore(row: Epoch) -> None:
    pass


def test_learns_what_comes_next(tmp_path: Path) -> None:
    config = RetrieverConfig(**SMALL | {"epochs": 15, "learning_rate": 1e-2, "dropout": 0.0})
    _, history = train_retriever(catalogue(), ring(), config, tmp_path, ignore)
    # By popularity 10 of the 32 items outside a history hit by chance, far from 0.9.
    assert max(row["HR@10"] for row in history) > 0.9


def test_interrupted_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = RetrieverConfig(**SMALL)
    model, history = train_retriever(catalogue(), ring(), config, tmp_path / "whole", ignore)
    seen = []

    def stop(row: Epoch) -> None:
        seen.append(row)
        if len(seen) < 3:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_retriever(catalogue(), ring(), config, tmp_path / "cut", stop)
    resumed, resumed_history = train_retriever(catalogue(), ring(), config, tmp_path / "cut", stop)

    assert seen == resumed_history == history
    for one, other in zip(weights(model), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_finished_training_is_not_repeated(tmp_path: Path) -> None:
    config = RetrieverConfig(**SMALL)
    model, history = train_retriever(catalogue(), ring(), config, tmp_path, ignore)
    rows: list[Epoch] = []
    again, same = train_retriever(catalogue(), ring(), config, tmp_path, rows.append)
    assert (rows, same) == ([], history)
    for one, other in zip(weights(model), weights(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_checkpoints_of_other_inputs_are_not_taken_up(tmp_path: Path) -> None:
    config = RetrieverConfig(**SMALL | {"epochs": 1})
    train_retriever(catalogue(), ring(), config, tmp_path, ignore)
    rows: list[Epoch] = []
    train_retriever(catalogue(), ring(seed=1), config, tmp_path, rows.append)
    assert [row["epoch"] for row in rows] == [1]


def test_seed_decides_the_weights(tmp_path: Path) -> None:
    one, other = (
        train_retriever(
            catalogue(), ring(), RetrieverConfig(**SMALL | {"seed": seed}), tmp_path, ignore
        )[0]
        for seed in (0, 1)
    )
    assert np.any(weights(one)[0] != weights(other)[0])


def test_stops_early_and_keeps_the_best_weights(tmp_path: Path) -> None:
    # So high a learning rate soon makes things worse.
    config = RetrieverConfig(**SMALL | {"epochs": 30, "patience": 2, "learning_rate": 0.3})
    model, history = train_retriever(catalogue(), ring(), config, tmp_path, ignore)
    ndcg = [row["NDCG@10"] for row in history]
    assert len(ndcg) == int(np.argmax(ndcg)) + 1 + config.patience < config.epochs
    _, histories, held_out = hold_out(ring(), config)
    assert evaluate(model, histories, held_out)[1] == pytest.approx(max(ndcg))


def test_trains_without_users_to_validate_on(tmp_path: Path) -> None:
    config = RetrieverConfig(**SMALL)
    pairs = [sequence[:2] for sequence in ring()]
    model, history = train_retriever(catalogue(), pairs, config, tmp_path, ignore)
    assert len(history) == config.epochs
    assert all(np.isnan(row["NDCG@10"]) for row in history)
    start = RetrieverModel(config, catalogue(), np.ones(ITEMS, np.int64))
    assert np.any(weights(model)[0] != weights(start)[0])


@pytest.mark.parametrize("sequences", [[], [np.array([3], np.int32), np.array([], np.int32)]])
def test_no_user_with_two_interactions_is_an_error(
    tmp_path: Path, sequences: list[np.ndarray]
) -> None:
    with pytest.raises(ValueError, match="two interactions"):
        train_retriever(catalogue(), sequences, RetrieverConfig(**SMALL), tmp_path, ignore)


def test_item_outside_the_catalogue_is_an_error(tmp_path: Path) -> None:
    sequences = [np.array([0, ITEMS], np.int32)]
    with pytest.raises(ValueError, match=f"0 to {ITEMS} in the sequences"):
        train_retriever(catalogue(), sequences, RetrieverConfig(**SMALL), tmp_path, ignore)
