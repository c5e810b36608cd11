"""Principal components of embeddings, against scikit-learn and their definition."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from models.retrieval import item_features
from models.retrieval.item_features import fit_projection, project


def embeddings(rows: int = 200, dimension: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, dimension)) * np.linspace(3, 1, dimension) + 0.5


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_features_are_the_principal_components_of_unit_vectors() -> None:
    rows = embeddings()
    found = project(fit_projection(rows, np.ones(200), most=5), rows)
    expected = PCA(5, svd_solver="full").fit_transform(unit(rows))
    expected /= np.sqrt(np.mean(expected.var(axis=0)))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)
    assert found.dtype == np.float32
    assert np.mean(found.var(axis=0)) == pytest.approx(1)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)


def test_an_item_that_stands_for_three_counts_as_three() -> None:
    rows, times = embeddings(), np.random.default_rng(1).integers(1, 4, 200)
    one = fit_projection(rows, times)
    other = fit_projection(np.repeat(rows, times, axis=0), np.ones(times.sum()))
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-6)
    np.testing.assert_allclose(one.axes, other.axes, atol=1e-5)


def test_the_length_of_an_embedding_does_not_count() -> None:
    rows = embeddings()
    projection = fit_projection(rows, np.ones(200))
    longer = rows * np.random.default_rng(2).uniform(1, 9, (200, 1))
    np.testing.assert_allclose(project(projection, longer), project(projection, rows), atol=1e-6)


def test_the_largest_weight_of_each_component_is_positive() -> None:
    axes = fit_projection(embeddings(), np.ones(200)).axes
    assert np.all(axes.max(axis=0) == np.abs(axes).max(axis=0))


@pytest.mark.parametrize(("dimension", "rank", "expected"), [(100, 100, 64), (9, 9, 9), (9, 4, 4)])
def test_there_are_as_many_features_as_the_embeddings_bear(
    dimension: int, rank: int, expected: int
) -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(300, rank)) @ np.linalg.qr(rng.normal(size=(dimension, rank)))[0].T
    # float32 adds noise outside the space they are of
    projection = fit_projection(rows.astype(np.float32), np.ones(300))
    assert project(projection, rows).shape == (300, expected)


def test_items_that_are_all_the_same_have_no_features() -> None:
    rows = np.tile(np.array([1.0, 2.0, 3.0], np.float32), (5, 1))
    assert project(fit_projection(rows, np.ones(5)), rows).shape == (5, 0)


def test_batches_do_not_change_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = embeddings()
    whole = project(fit_projection(rows, np.ones(200)), rows)
    monkeypatch.setattr(item_features, "_BATCH", 7)
    parts = project(fit_projection(rows, np.ones(200)), rows)
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_zeros_are_no_error() -> None:
    rows = embeddings()
    rows[0] = 0
    assert np.isfinite(project(fit_projection(rows, np.ones(200)), rows)).all()
