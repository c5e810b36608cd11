"""A retriever that gets another catalogue over the same weights."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval.item_catalogue import Catalogue
from models.retrieval.item_statistics import ItemStatistics
from models.retrieval.refresh import fit_content, put_weights
from models.retrieval.retriever import RetrieverModel, tf
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.trained_weights import TrainedWeights
from tests.models.retrieval.small_retriever import SMALL, catalogue

ITEMS, CLUSTERS, FEATURES = 60, 4, 3
CATALOGUE = replace(
    catalogue(ITEMS),
    features=np.random.default_rng(1).normal(size=[ITEMS, FEATURES]).astype(np.float32),
)
COUNTS = np.random.default_rng(2).integers(0, 4, ITEMS)
LEARNED_FROM = {"seed": 3}


@pytest.fixture(scope="module")
def model() -> RetrieverModel:
    model = RetrieverModel(RetrieverConfig(**SMALL), CATALOGUE, ItemStatistics.timeless(COUNTS))
    for number, variable in enumerate(model.variables):  # as large as trained ones
        variable.assign(tf.random.stateless_normal(variable.shape, seed=[1, number]))
    return model


@pytest.fixture(scope="module")
def weights(model: RetrieverModel) -> TrainedWeights:
    """The weights of the first 50 items."""
    whole = TrainedWeights.of(model, CATALOGUE, LEARNED_FROM)
    return replace(
        whole,
        item_ids=whole.item_ids[:50],
        vectors=whole.vectors[:50],
        content=whole.content[:50],
    )


def refreshed(weights: TrainedWeights, items: Catalogue, counts: np.ndarray) -> RetrieverModel:
    model = RetrieverModel(weights.config, items, ItemStatistics.timeless(counts))
    put_weights(weights, items, model)
    return model


def vectors(model: RetrieverModel, *own: tf.Tensor) -> np.ndarray:
    return model.items(tf.range(ITEMS), *own).numpy()


def test_weights_are_read_as_they_were_written(weights: TrainedWeights) -> None:
    read = TrainedWeights.from_bytes(weights.to_bytes())
    assert read.to_bytes() == weights.to_bytes()
    assert (read.config, read.learned_from) == (weights.config, LEARNED_FROM)
    assert read.item_ids.equals(weights.item_ids)
    np.testing.assert_array_equal(read.vectors, weights.vectors)
    for one, other in zip(read.query, weights.query, strict=True):
        np.testing.assert_array_equal(one, other)


def test_known_items_keep_their_vectors_and_new_ones_get_those_of_their_content(
    model: RetrieverModel, weights: TrainedWeights
) -> None:
    found = vectors(refreshed(weights, CATALOGUE, COUNTS))
    np.testing.assert_allclose(found[:50], vectors(model)[:50], atol=1e-5)
    content = vectors(model, tf.zeros(ITEMS, tf.bool))
    np.testing.assert_allclose(found[50:], content[50:], atol=1e-5)


def test_clusters_may_have_other_numbers_and_features_other_axes(
    model: RetrieverModel, weights: TrainedWeights
) -> None:
    rng = np.random.default_rng(4)
    turned = CATALOGUE.features @ rng.normal(size=[FEATURES, FEATURES]) + rng.normal(size=FEATURES)
    other = Catalogue(
        CATALOGUE.item_ids,
        rng.permutation(CLUSTERS).astype(np.int32)[CATALOGUE.clusters],
        CATALOGUE.eligible,
        turned.astype(np.float32),
    )
    found, same = (vectors(refreshed(weights, items, COUNTS)) for items in (other, CATALOGUE))
    np.testing.assert_allclose(found, same, atol=1e-4)


def test_popularity_is_of_the_new_counts_and_the_query_tower_is_the_same(
    model: RetrieverModel, weights: TrainedWeights
) -> None:
    counts = COUNTS[::-1].copy()
    found = refreshed(weights, CATALOGUE, counts)
    expected = RetrieverModel(model.config, CATALOGUE, ItemStatistics.timeless(counts))
    np.testing.assert_array_equal(vectors(found)[:, -1], vectors(expected)[:, -1])
    history = tf.random.stateless_normal([2, 5, SMALL["dimension"]], seed=[1, 2])
    lengths = tf.constant([5, 3])
    np.testing.assert_array_equal(found.query(history, lengths), model.query(history, lengths))


def test_weights_of_other_items_are_an_error(weights: TrainedWeights) -> None:
    others = replace(CATALOGUE, item_ids=np.char.add("other ", CATALOGUE.item_ids))
    with pytest.raises(ValueError, match="know none of the items"):
        refreshed(weights, others, COUNTS)


def test_weights_of_another_query_tower_are_an_error(weights: TrainedWeights) -> None:
    with pytest.raises(ValueError, match="another version of the retriever"):
        refreshed(replace(weights, query=weights.query[:-1]), CATALOGUE, COUNTS)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 40), st.integers(0, 3), st.integers(1, 6))
def test_fit_is_that_of_least_squares_with_a_column_for_each_cluster(
    seed: int, items: int, width: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.integers(size, size=items).astype(np.int32)
    features = rng.normal(size=[items, width]).astype(np.float32)
    content = rng.normal(size=[items, 2]).astype(np.float32)
    of_cluster, of_features = fit_content(content, clusters, features, size)
    columns = np.concatenate([np.eye(size)[clusters], features], axis=1)
    best = columns @ np.linalg.lstsq(columns, content, rcond=None)[0]
    found = of_cluster[clusters] + features @ of_features
    np.testing.assert_allclose(found, best, atol=1e-3)


def test_a_cluster_without_known_items_gets_the_mean() -> None:
    content = np.array([[1.0], [1.0], [4.0]], np.float32)
    of_cluster, _ = fit_content(content, np.array([0, 0, 2]), np.zeros((3, 0), np.float32), 3)
    assert of_cluster.tolist() == [[1.0], [2.0], [4.0]]
