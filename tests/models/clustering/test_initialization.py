import numpy as np
import pytest

from models.clustering.initialization import principal_parts
from models.common.unit_vectors import unit_rows


def test_two_groups_are_told_apart_along_the_line_between_them():
    rng = np.random.default_rng(0)
    group = np.arange(40) % 2
    points = np.eye(5)[group] + 0.05 * rng.normal(size=(40, 5))
    labels = principal_parts(unit_rows(points), np.ones(40), 2)
    assert len(set(zip(group.tolist(), labels.tolist(), strict=True))) == 2


@pytest.mark.parametrize("count", [1, 7, 30])
def test_there_are_as_many_parts_as_asked_for_and_none_is_empty(count):
    points = unit_rows(np.random.default_rng(1).normal(size=(30, 4)))
    labels = principal_parts(points, np.ones(30), count)
    assert sorted(set(labels.tolist())) == list(range(count))


def test_the_part_with_the_most_scatter_is_halved():
    rng = np.random.default_rng(2)
    wide = rng.normal(size=(50, 3)) + np.array([30, 0, 0])
    close = 0.01 * rng.normal(size=(50, 3))
    labels = principal_parts(np.concatenate([wide, close]), np.ones(100), 3)
    assert len(set(labels[:50].tolist())) == 2
    assert len(set(labels[50:].tolist())) == 1
