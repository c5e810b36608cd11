"""The towers and the loss of the retriever."""

from typing import Any

import numpy as np
import pytest

from models.retriever import RetrieverModel, tf
from models.retriever_config import RetrieverConfig
from tests.models.small_retriever import ITEMS, SMALL, catalogue


@pytest.mark.parametrize(
    ("option", "value"),
    [("dimension", 0), ("heads", 3), ("dropout", 1.0), ("learning_rate", 0.0), ("seed", -1)],
)
def test_config_rejects(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option if option != "heads" else "3 heads"):
        RetrieverConfig(**{option: value})  # type: ignore[arg-type]


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
