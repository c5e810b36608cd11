"""The score of a cluster against the sum over its items."""

import itertools

import numpy as np
import pytest

from models.retrieval.serving.cluster_scores import (
    cluster_log_sums,
    cluster_representatives,
    cluster_scores,
)

RNG = np.random.default_rng(0)
D, STARTS = 4, np.array([0, 30, 30, 2_030, 2_031], np.int32)
VECTORS = RNG.normal(0.2, 0.3, [2_037, D]).astype(np.float32)  # the last 6 are of no cluster
VECTORS[:, -1] = -3 * np.log(RNG.permutation(len(VECTORS)) + 1)  # few items are popular
POPULARITY = np.array([0, 0, 0, 1], np.float32)


def exact(query: np.ndarray) -> np.ndarray:
    scores = VECTORS.astype(np.float64) @ query
    return np.array([np.logaddexp.reduce(scores[a:b]) for a, b in itertools.pairwise(STARTS)])


def found(query: np.ndarray) -> np.ndarray:
    return cluster_scores(cluster_representatives(VECTORS, STARTS), query[None]).numpy()[0]


def query(seed: int) -> np.ndarray:
    return np.append(np.random.default_rng(seed).normal(size=D - 1), 1).astype(np.float32)


def test_a_sum_is_of_the_items_of_the_cluster() -> None:
    sums = cluster_log_sums(VECTORS @ POPULARITY, STARTS)
    np.testing.assert_allclose(sums, exact(POPULARITY), rtol=1e-5)


def test_by_popularity_alone_the_score_is_exact() -> None:
    full = [0, 2, 3]
    np.testing.assert_allclose(found(POPULARITY)[full], exact(POPULARITY)[full], rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_clusters_of_few_items_have_the_exact_score(seed: int) -> None:
    np.testing.assert_allclose(
        found(query(seed))[[0, 3]], exact(query(seed))[[0, 3]], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_large_cluster_has_nearly_the_exact_score(seed: int) -> None:
    assert found(query(seed))[2] == pytest.approx(exact(query(seed))[2], abs=0.05)
    assert abs(exact(query(seed))[2] - exact(POPULARITY)[2]) > 0.1  # for a reason


def test_a_cluster_without_items_has_the_least_score() -> None:
    assert found(POPULARITY)[1] < -1e38
