"""The score of a cluster against the sum over its items."""

import itertools

import numpy as np
import pytest

from models.retrieval.serving.cluster_scores import (
    cluster_log_sums,
    cluster_moments,
    cluster_scores,
)

RNG = np.random.default_rng(0)
D, STARTS = 4, np.array([0, 3, 3, 20_003, 20_004], np.int32)
VECTORS = RNG.normal(0.2, 0.4, [20_010, D]).astype(np.float32)  # the last 6 are of no cluster
ORIGIN = np.array([0, 0, 0, 1], np.float32)


def exact(query: np.ndarray) -> np.ndarray:
    scores = VECTORS.astype(np.float64) @ query
    return np.array([np.log(np.exp(scores[a:b]).sum()) for a, b in itertools.pairwise(STARTS)])


@pytest.fixture(scope="module", autouse=True)
def _empty_cluster_is_no_warning():
    with np.errstate(divide="ignore"):
        yield


def test_a_sum_is_of_the_items_of_the_cluster() -> None:
    np.testing.assert_allclose(cluster_log_sums(VECTORS @ ORIGIN, STARTS), exact(ORIGIN), rtol=1e-5)


def test_at_the_origin_the_score_is_exact() -> None:
    moments = cluster_moments(VECTORS, STARTS, ORIGIN)
    found = cluster_scores(moments, ORIGIN[None]).numpy()[0]
    np.testing.assert_allclose(found, exact(ORIGIN), rtol=1e-4)


def test_a_cluster_of_one_item_has_its_score() -> None:
    query = RNG.normal(size=D).astype(np.float32)
    found = cluster_scores(cluster_moments(VECTORS, STARTS, ORIGIN), query[None]).numpy()[0]
    assert found[3] == pytest.approx(VECTORS[20_003] @ query, rel=1e-4)


def test_items_with_a_normal_distribution_have_the_score_of_their_sum() -> None:
    query = RNG.normal(size=D).astype(np.float32)
    found = cluster_scores(cluster_moments(VECTORS, STARTS, ORIGIN), query[None]).numpy()[0]
    assert found[2] == pytest.approx(exact(query)[2], abs=0.02)
    assert abs(found[2] - exact(ORIGIN)[2]) > 0.05  # it moved, and by the right amount


def test_a_cluster_without_items_has_no_score() -> None:
    found = cluster_scores(cluster_moments(VECTORS, STARTS, ORIGIN), ORIGIN[None]).numpy()[0]
    assert np.isneginf(found[1])
