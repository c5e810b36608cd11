"""The towers and the loss of the retriever."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.retrieval.item_statistics import ItemStatistics
from models.retrieval.retriever import RetrieverModel, tf
from models.retrieval.retriever_config import RetrieverConfig
from tests.models.retrieval.small_retriever import ITEMS, SMALL, catalogue


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("dimension", 0),
        ("heads", 3),
        ("dropout", 1.0),
        ("item_dropout", 1.0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("seed", -1),
    ],
)
def test_config_rejects(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        RetrieverConfig(**{option: value})  # type: ignore[arg-type]


FEATURES = np.random.default_rng(1).normal(size=[ITEMS, 3]).astype(np.float32)
ALL, SOME = ITEMS, ITEMS - 1  # of the items as `negatives`: a softmax over all, or a sampled one


def model_of(counts: np.ndarray | None = None, **options: float) -> RetrieverModel:
    config = RetrieverConfig(**SMALL | options)
    counts = np.ones(ITEMS, np.int64) if counts is None else counts
    items = replace(catalogue(), features=FEATURES)
    model = RetrieverModel(config, items, ItemStatistics.timeless(counts))
    model.compile(optimizer=tf.keras.optimizers.SGD())
    return model


def test_empty_history_ranks_by_popularity() -> None:
    counts = np.random.default_rng(0).permutation(ITEMS)
    model = model_of(counts)
    query = model.query(tf.zeros([1, 8, 16]), tf.zeros([1], tf.int32))
    scores = tf.linalg.matvec(model.items(tf.range(ITEMS)), query[0]).numpy()
    np.testing.assert_array_equal(np.argsort(-scores), np.argsort(-counts))


@pytest.mark.parametrize("length", [5, 8])
def test_query_is_the_towers_at_the_last_item_whatever_the_padding(length: int) -> None:
    model = model_of(layers=2)
    vectors = tf.random.stateless_normal([3, length, 16], seed=[1, 2])
    lengths = [5, 1, 3]
    found = model.query(tf.pad(vectors, [[0, 0], [0, 8 - length], [0, 0]]), tf.constant(lengths))
    expected = [
        queries_at(model, vectors[row, None, :end], np.arange(end)[::-1])[-1]
        for row, end in enumerate(lengths)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


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


def test_an_item_lies_at_its_embedding_plus_cluster_plus_features() -> None:
    tower = model_of().items
    expected = tower.item.numpy() + tower.cluster.numpy()[np.arange(ITEMS) % 4]
    expected += FEATURES @ tower.feature.numpy()
    np.testing.assert_allclose(tower(tf.range(ITEMS)).numpy()[:, :-1], expected, atol=1e-6)


def test_an_item_without_interactions_lies_at_its_cluster_and_features_alone() -> None:
    counts = np.ones(ITEMS, np.int64)
    counts[5] = 0
    tower = model_of(counts).items
    expected = tower.cluster.numpy()[5 % 4] + FEATURES[5] @ tower.feature.numpy()
    np.testing.assert_allclose(tower(tf.constant([5])).numpy()[0, :-1], expected, atol=1e-6)


def test_loss_is_the_softmax_over_all_items() -> None:
    model = model_of(dropout=0, item_dropout=0, negatives=ALL)
    sequence = np.array([2, 7, 3, 4])
    loss = model.compute_loss(rows_of([[(0, sequence)]]), training=True)
    vectors = model.items(tf.range(ITEMS)).numpy()
    expected = []
    queries = queries_at(model, vectors[None, sequence[:3], :-1], np.array([2, 1, 0]))
    for end in (1, 2, 3):
        scores = vectors @ queries[end - 1]
        expected.append(np.log(np.sum(np.exp(scores))) - scores[sequence[end]])
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)


def test_sampled_loss_is_corrected_by_how_often_a_candidate_is_drawn() -> None:
    """In a catalogue so large that the rarest candidates' chances are below one in a million."""
    items, negatives = 500_000, 7
    counts = np.zeros(items, np.int64)
    targets = np.array([7, 7, 3, 499_999], np.int32)
    users = np.array([0, 1, 2, 2], np.int32)
    counts[[7, 3]] = 9_000_000, 5
    config = RetrieverConfig(**SMALL | {"dimension": 2, "heads": 1, "negatives": negatives})
    model = RetrieverModel(config, catalogue(items), ItemStatistics.timeless(counts))
    queries = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    seed = tf.constant([0, 1])
    at = tf.constant(queries), tf.zeros(4, tf.int32)
    found = model.sampled_loss(at, tf.constant(targets), tf.constant(users), None, seed)

    of_batch = tf.random.stateless_uniform([3], seed, 0, len(targets), tf.int32).numpy()
    drawn = tf.random.stateless_uniform([4], tf.random.fold_in(seed, 0), 0, items, tf.int32)
    candidates = np.concatenate([targets[of_batch], drawn.numpy()])
    users_of = np.concatenate([users[of_batch], [-1] * 4])
    share = (counts + 1) / np.sum(counts + 1)

    def corrected(query: np.ndarray, scored: np.ndarray) -> np.ndarray:
        vectors = model.items(tf.constant(scored)).numpy()
        return vectors @ query - np.log(3 * share[scored] + 4 / items)

    losses = []
    for query, target, user in zip(queries, targets, users, strict=True):
        negative = candidates[(candidates != target) & (users_of != user)]
        logits = corrected(query, np.array([target, *negative], np.int32))
        losses.append(np.log(np.sum(np.exp(logits))) - logits[0])
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-4)


@pytest.mark.parametrize("negatives", [ALL, SOME])
def test_loss_in_a_packed_row_equals_the_loss_of_separate_rows(negatives: int) -> None:
    """Two users end to end in a row see nothing of each other."""
    model = model_of(dropout=0, item_dropout=0, negatives=negatives)
    one, two = np.array([1, 5, 9]), np.array([2, 7, 3, 4])
    packed = rows_of([[(0, one), (1, two)]])
    apart = rows_of([[(0, one)], [(1, two)]])
    np.testing.assert_allclose(model.compute_loss(packed), model.compute_loss(apart), rtol=1e-5)


@pytest.mark.parametrize("negatives", [ALL, SOME])
def test_training_moves_no_embedding_of_an_item_that_is_left_out(negatives: int) -> None:
    model = model_of(item_dropout=0.5, negatives=negatives)
    before = model.items.item.numpy()
    model.train_step(rows_of([[(0, np.arange(8))], [(1, np.arange(8, 16))]]))
    used = np.arange(16) if negatives == SOME else np.arange(ITEMS)
    moved = np.any(model.items.item.numpy() != before, axis=1)
    assert 0.2 < np.mean(moved[used]) < 0.8


def queries_at(model: RetrieverModel, vectors: Any, recency: np.ndarray) -> np.ndarray:
    """Queries [length, dimension + 1] of a history of vectors [1, length, dimension]."""
    index = np.arange(len(recency))
    causal = tf.constant(index[:, None] >= index)[None]
    at = tf.constant(recency[None], tf.int32)
    return model.queries(tf.constant(vectors), at, causal, tf.identity)[0].numpy()


def rows_of(rows: list[list[tuple[int, np.ndarray]]], length: int = 8) -> dict[str, Any]:
    names = ("items", "targets", "recency", "users", "snapshots")
    batch = {name: np.full([len(rows), length], -(name == "users"), np.int32) for name in names}
    for row, parts in enumerate(rows):
        at = 0
        for user, sequence in parts:
            end = at + len(sequence) - 1
            batch["items"][row, at:end] = sequence[:-1]
            batch["targets"][row, at:end] = sequence[1:]
            batch["recency"][row, at:end] = np.arange(end - at)[::-1]
            batch["users"][row, at:end] = user
            at = end
    return {name: tf.constant(array) for name, array in batch.items()}
