"""The retriever: what it learns, that it resumes exactly, and its pure parts against oracles."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retriever import (
    Catalogue,
    Epoch,
    RetrieverConfig,
    RetrieverModel,
    batches,
    evaluate,
    hold_out,
    rank_of,
    tf,
    train_retriever,
)

ITEMS = 40
SMALL: dict[str, Any] = {
    "dimension": 16,
    "layers": 1,
    "max_length": 8,
    "batch_size": 8,
    "negatives": 32,
    "epochs": 3,
}


def ring(users: int = 60, length: int = 9, seed: int = 0) -> list[np.ndarray]:
    """Users who walk a ring of items one by one, so that the next item is certain."""
    starts = np.random.default_rng(seed).integers(ITEMS, size=users)
    return [((start + np.arange(length)) % ITEMS).astype(np.int32) for start in starts]


def catalogue(items: int = ITEMS) -> Catalogue:
    ids = np.array([f"item {index}" for index in range(items)])
    return Catalogue(ids, (np.arange(items) % 4).astype(np.int32), np.ones(items, bool))


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
    start = RetrieverModel(config, catalogue().clusters, np.ones(ITEMS, np.int64))
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


@pytest.mark.parametrize(
    ("option", "value"),
    [("dimension", 0), ("heads", 3), ("dropout", 1.0), ("learning_rate", 0.0), ("seed", -1)],
)
def test_config_rejects(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option if option != "heads" else "3 heads"):
        RetrieverConfig(**{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ids", "clusters", "message"),
    [
        (["a", "a"], [0, 0], "distinct"),
        (["a", ""], [0, 0], "not empty"),
        (["a", "b"], [0], "one length"),
        (["a", "b"], [0, -1], "cluster -1"),
        ([], [], "no items"),
    ],
)
def test_catalogue_rejects(ids: list[str], clusters: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Catalogue(np.array(ids), np.array(clusters, np.int32), np.ones(len(ids), bool))


def model_of(counts: np.ndarray | None = None, **options: int) -> RetrieverModel:
    config = RetrieverConfig(**SMALL | options)
    counts = np.ones(ITEMS, np.int64) if counts is None else counts
    return RetrieverModel(config, catalogue().clusters, counts)


def test_empty_history_ranks_by_popularity() -> None:
    counts = np.random.default_rng(0).permutation(ITEMS)
    model = model_of(counts)
    query = model.query(tf.zeros([1, 8, 16]), tf.zeros([1], tf.int32))
    scores = tf.linalg.matvec(model.items(tf.range(ITEMS)), query[0]).numpy()
    np.testing.assert_array_equal(np.argsort(-scores), np.argsort(-counts))


def test_query_ignores_what_is_padded_and_heeds_the_order() -> None:
    model = model_of()
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=[8, 16]).astype(np.float32)
    noisy, swapped = vectors.copy(), vectors.copy()
    noisy[5:] = rng.normal(size=[3, 16])
    swapped[[1, 2]] = vectors[[2, 1]]
    queries = model.query(tf.constant([vectors, noisy, swapped]), tf.constant([5, 5, 5])).numpy()
    np.testing.assert_array_equal(queries[0], queries[1])
    assert not np.allclose(queries[0], queries[2])


def test_items_without_interactions_are_told_apart_by_cluster() -> None:
    model = model_of()
    vectors = model.items(tf.range(ITEMS)).numpy()[:, :-1] - model.items.item.numpy()
    same = np.arange(ITEMS) % 4 == 1
    np.testing.assert_allclose(vectors[same], np.tile(vectors[1], (np.sum(same), 1)), atol=1e-6)
    assert not np.allclose(vectors[1], vectors[2])


def test_loss_in_a_packed_row_equals_the_loss_of_separate_rows() -> None:
    """Two users end to end in a row see nothing of each other."""
    model = model_of(dropout=0, negatives=ITEMS)
    model.compile(optimizer=tf.keras.optimizers.SGD())
    one, two = np.array([1, 5, 9]), np.array([2, 7, 3, 4])
    packed = rows_of([[(0, one), (1, two)]])
    apart = rows_of([[(0, one)], [(1, two)]])
    np.testing.assert_allclose(model.compute_loss(packed), model.compute_loss(apart), rtol=1e-5)


def rows_of(rows: list[list[tuple[int, np.ndarray]]], length: int = 8) -> dict[str, Any]:
    names = ("items", "targets", "places", "users")
    batch = {name: np.full([len(rows), length], -(name == "users"), np.int32) for name in names}
    for row, parts in enumerate(rows):
        at = 0
        for user, sequence in parts:
            end = at + len(sequence) - 1
            batch["items"][row, at:end] = sequence[:-1]
            batch["targets"][row, at:end] = sequence[1:]
            batch["places"][row, at:end] = np.arange(end - at)
            batch["users"][row, at:end] = user
            at = end
    return {name: tf.constant(array) for name, array in batch.items()}


sequences_of_users = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=2, max_size=30).map(
        lambda items: np.array(items, np.int32)
    ),
    min_size=1,
    max_size=8,
)


@given(sequences_of_users, st.integers(0, 3))
def test_an_epoch_holds_every_transition_once_in_order(
    sequences: list[np.ndarray], epoch: int
) -> None:
    config = RetrieverConfig(max_length=5, batch_size=2)
    rows: list[list[tuple[int, int, int, int]]] = []
    for batch in batches(sequences, config, epoch):
        assert {array.shape for array in batch.values()} == {(2, 5)}
        cells = zip(*(batch[n] for n in ("users", "items", "targets", "places")), strict=True)
        rows += [list(zip(*map(np.ndarray.tolist, row), strict=True)) for row in cells]
    for user, sequence in enumerate(sequences):
        mine = [(item, target) for row in rows for who, item, target, _ in row if who == user]
        assert mine == list(zip(sequence[:-1].tolist(), sequence[1:].tolist(), strict=True))
    for row in rows:
        for user in {cell[0] for cell in row} - {-1}:
            places = [cell[3] for cell in row if cell[0] == user]
            assert places == list(range(len(places)))


def test_epochs_are_shuffled_by_seed_and_number() -> None:
    def users(seed: int, epoch: int) -> list[int]:
        config = RetrieverConfig(max_length=8, batch_size=64, seed=seed)
        return next(batches(ring(), config, epoch))["users"].ravel().tolist()

    assert users(0, 0) == users(0, 0)
    assert users(0, 0) != users(0, 1)
    assert users(0, 0) != users(1, 0)


@given(sequences_of_users, st.integers(1, 4))
def test_held_out_items_are_last_new_and_few(sequences: list[np.ndarray], most: int) -> None:
    config = RetrieverConfig(validation_users=most)
    training, histories, held_out = hold_out(sequences, config)
    shortened = [u for u in range(len(sequences)) if len(training[u]) < len(sequences[u])]
    able = [s for s in sequences if len(s) >= 3 and s[-1] not in s[:-1]]
    assert len(shortened) == len(histories) == len(held_out) == min(most, len(able))
    for user, history, item in zip(shortened, histories, held_out, strict=True):
        assert item not in history
        np.testing.assert_array_equal([*history, item], sequences[user])
        np.testing.assert_array_equal(training[user], history)


@settings(max_examples=50)
@given(st.data())
def test_rank_is_the_place_in_the_sorted_items_outside_the_history(data: st.DataObject) -> None:
    # Few distinct scores, so that there are ties.
    scores = data.draw(st.lists(st.integers(0, 3), min_size=5, max_size=5))
    order = data.draw(st.permutations(range(5)))
    history, item = np.array(order[:2], np.int32), order[2]
    ranking = sorted(set(range(5)) - set(order[:2]), key=lambda index: (-scores[index], index))
    rank = rank_of(np.array([scores], np.float32), [history], np.array([item], np.int32))
    assert rank.tolist() == [ranking.index(item)]
