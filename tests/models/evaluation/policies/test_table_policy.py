"""A novelty table as a policy: what is listed in its order, and then the rest."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.policies.table_policy import PriorPolicy, TablePolicy
from models.evaluation.statistics.ranking import best
from tests.models.interests.tables import novelty_table

M = 5


def policy(listed: list[int], p: list[float], blocked: tuple[int, ...] = ()) -> TablePolicy:
    """Return a table with the same candidates for every pair."""
    novel, probability = np.array(listed, np.int32), np.array(p, np.float32)
    rows = (np.tile(row, (M, M, 1)) for row in (novel, probability))
    return TablePolicy(novelty_table(*rows, blocked))


def scores(table: TablePolicy | PriorPolicy, c1: int, c2: int) -> np.ndarray:
    return table.scores(np.array([c1], np.int32), np.array([c2], np.int32))[0]


def order(table: TablePolicy | PriorPolicy, c1: int, c2: int) -> list[int]:
    return [c for c in best(scores(table, c1, c2)[None], M)[0].tolist() if c >= 0]


@given(
    st.permutations([1, 2, 3, 4]),
    st.integers(1, 4),
    st.lists(st.integers(0, 8), min_size=4, max_size=4),
)
def test_listed_clusters_come_first_then_the_others_by_id(
    clusters: list[int], n: int, parts: list[int]
) -> None:
    p = sorted((part / 32 for part in parts[:n]), reverse=True)
    listed = clusters[:n]
    by_probability = sorted(listed, key=lambda c: (-p[listed.index(c)], c))
    found = order(policy(listed, p), 0, 0)
    assert found == [*by_probability, *sorted(set(range(1, M)) - set(listed))]


def test_what_is_not_listed_shares_what_is_left() -> None:
    found = np.exp(scores(policy([2, 1], [0.5, 0.3]), 0, 0))
    np.testing.assert_allclose(found, [0, 0.3, 0.5, 0.1, 0.1], rtol=1e-5)


def test_pads_are_no_cluster() -> None:
    found = np.exp(scores(policy([2, -1], [0.6, 0.0]), 0, 1))
    np.testing.assert_allclose(found, [0, 0, 0.6, 0.2, 0.2], rtol=1e-5)


def test_blocked_clusters_have_no_part_of_it() -> None:
    found = np.exp(scores(policy([2], [0.6], (3,)), 0, 1))
    np.testing.assert_allclose(found, [0, 0, 0.6, 0, 0.4], rtol=1e-5)


def test_popularity_is_added_with_its_weight() -> None:
    popular = np.log(np.array([1, 1, 1, 2, 100], np.float32))
    table = policy([2, 1], [0.5, 0.3])
    assert order(PriorPolicy(table, popular, 0.0), 0, 0) == [2, 1, 3, 4]
    assert order(PriorPolicy(table, popular, 0.4), 0, 0) == [4, 2, 1, 3]
