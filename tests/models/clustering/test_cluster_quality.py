"""The measures of clusters against slow ones, item by item."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score

from models.clustering.cluster_quality import cluster_quality


def vectors(items: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(items, 5))


def mean_cosine_of_pairs(embeddings: np.ndarray, ids: np.ndarray) -> float:
    """Oracle: of each item to each other item of its cluster, then over the items."""
    rows = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    means = []
    for one in range(len(rows)):
        others = [other for other in range(len(rows)) if ids[other] == ids[one] and other != one]
        if others:
            means.append(np.mean([rows[one] @ rows[other] for other in others]))
    return float(np.mean(means)) if means else float("nan")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
@settings(deadline=None)
def test_coherence_is_the_mean_cosine_of_pairs(ids):
    embeddings = vectors(len(ids))
    expected = mean_cosine_of_pairs(embeddings, np.array(ids))
    found = cluster_quality(embeddings, np.array(ids)).coherence
    assert found == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.integers(0, 4), min_size=6, max_size=30))
@settings(deadline=None)
def test_separation_is_the_silhouette_of_scikit_learn(ids):
    ids = [0, 1, *ids]
    embeddings = vectors(len(ids))
    expected = silhouette_score(embeddings, ids, metric="cosine")
    assert cluster_quality(embeddings, np.array(ids)).separation == pytest.approx(expected)


def test_an_item_without_weight_does_not_count():
    embeddings, ids = vectors(20), np.arange(20) % 3
    weights = np.repeat([1.0, 0.0], 10)
    expected = cluster_quality(embeddings[:10], ids[:10])
    assert cluster_quality(embeddings, ids, weights) == pytest.approx(expected)


def test_only_the_ratio_of_weights_and_the_direction_of_embeddings_count():
    embeddings, ids = vectors(30), np.arange(30) % 4
    weights = np.random.default_rng(1).uniform(1, 5, 30)
    scaled = embeddings * np.linspace(1, 9, 30)[:, None]
    expected = cluster_quality(embeddings, ids, weights)
    assert cluster_quality(scaled, ids, 7 * weights) == pytest.approx(expected)


def test_weights_pull_the_mean_to_the_cluster_that_carries_them():
    embeddings = np.concatenate([np.tile([1.0, 0.0], (4, 1)), np.eye(2), -np.eye(2)])
    ids = np.repeat([0, 1], 4)
    tight, loose = (cluster_quality(embeddings[at], ids[at]) for at in (ids == 0, ids == 1))
    heavy = cluster_quality(embeddings, ids, np.repeat([9.0, 1.0], 4))
    assert heavy.coherence == pytest.approx((9 * tight.coherence + loose.coherence) / 10)


def test_what_cannot_be_measured_is_nan():
    assert np.isnan(cluster_quality(vectors(3), np.arange(3)).coherence)
    assert np.isnan(cluster_quality(vectors(0), np.zeros(0, int))).all()
    assert np.isnan(cluster_quality(vectors(3), np.zeros(3, int)).separation)
