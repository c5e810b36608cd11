import numpy as np
import pytest

from models.clustering.embedding_arrays import batches, label_sums, rounded_unit_rows, scatter
from models.common.unit_vectors import unit_rows


def test_rows_have_length_one_whatever_they_had():
    rows = rounded_unit_rows(np.array([[3.0, 4.0], [3e-300, 4e-300], [3e300, 4e300], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8]] * 3 + [[0.0, 0.0]], atol=1e-6)


def test_rows_that_differ_by_noise_are_the_same():
    one, other = rounded_unit_rows(np.array([[1, 0.5], [1 + 1e-9, 0.5]]))
    assert (one == other).all()


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        rounded_unit_rows(np.array([[1.0, np.nan]]))


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_unit_rows_keep_their_precision_and_their_zeros(precision):
    rows = unit_rows(np.array([[3.0, 4.0], [1e-12, 0.0], [0.0, 0.0]], precision))
    assert rows.dtype == precision
    np.testing.assert_allclose(rows, [[0.6, 0.8], [1.0, 0.0], [0.0, 0.0]], rtol=1e-6)


def test_rows_of_noise_stay_short():
    assert np.abs(unit_rows(np.array([[1e-17, 0.0]]), shortest=1e-12)).max() < 1e-4


def test_batches_cover_every_row_once():
    rows = [row for part in batches(10, 1 << 18) for row in range(10)[part]]
    assert rows == list(range(10))
    assert len(list(batches(10, 1 << 18))) == 3


def test_sums_and_scatters_are_those_of_their_definition():
    rng = np.random.default_rng(0)
    points, masses = rng.normal(size=(50, 3)).astype(np.float32), rng.random(50)
    labels, centres = rng.integers(4, size=50), rng.normal(size=(4, 3))
    sums = [sum(masses[i] * points[i] for i in range(50) if labels[i] == k) for k in range(4)]
    np.testing.assert_allclose(label_sums(points, masses, labels, 4), sums, rtol=1e-5)
    expected = sum(masses[i] * ((points[i] - centres[labels[i]]) ** 2).sum() for i in range(50))
    assert scatter(points, masses, labels, centres) == pytest.approx(expected, rel=1e-5)
