"""What a log can teach."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms import schemas as col
from transforms.transitions.log_facts import (
    ITEMS_PER_CLUSTER,
    LogFacts,
    log_facts,
    most_transitions,
    supported_clusters,
)

ITEMS = 6
MINUTE = 60_000_000
Users = list[list[tuple[int, int]]]  # of each user: minutes and items, in order of time


def facts_of(users: Users, items: int = ITEMS) -> LogFacts:
    columns = [
        pa.array([f"user {number}" for number in range(len(users))], pa.string()),
        pa.array([[MINUTE * minute for minute, _ in user] for user in users], pa.list_(pa.int64())),
        pa.array([[item for _, item in user] for user in users], pa.list_(pa.int32())),
    ]
    table = pa.table(columns, names=col.SEQUENCES.names).cast(col.SEQUENCES)
    return log_facts(table, items)


def test_facts_of_two_users() -> None:
    facts = facts_of([[(0, 1), (10, 1), (41, 2)], [(5, 3)]])
    assert (facts.users, facts.engagements, facts.repeated, facts.sessions) == (2, 4, 1, 3)
    assert (facts.first, facts.last) == (0, 41 * MINUTE)
    assert facts.items.tolist() == [0, 2, 1, 1, 0, 0]


def test_a_session_ends_after_thirty_minutes_without_an_engagement() -> None:
    assert facts_of([[(0, 1), (30, 2), (61, 3)]]).sessions == 2


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2), (0.9, 3)])
def test_quantiles_are_of_users(share: float, expected: int) -> None:
    users: Users = [[(0, 1)], [(0, 1), (1, 2)], [(0, 1), (1, 2), (2, 3)]]
    assert facts_of(users).quantile(share) == expected


users = st.lists(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, ITEMS - 1)), min_size=1, max_size=5).map(
        sorted
    ),
    max_size=5,
)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(users, users)
def test_facts_of_parts_add_up(one: Users, other: Users) -> None:
    added, whole = facts_of(one) + facts_of(other), facts_of(one + other)
    for name in vars(whole):
        np.testing.assert_array_equal(getattr(added, name), getattr(whole, name))


def test_transitions_are_those_of_items_that_are_in_clusters_by_chance() -> None:
    rng, clusters, items, each = np.random.default_rng(0), 5, 60, [2, 7, 30]
    facts = facts_of([[(k, k) for k in range(n)] for n in each], items)
    drawn = [
        sum(len(np.unique(rng.integers(clusters, size=n))) - 1 for n in each) for _ in range(4000)
    ]
    assert most_transitions(facts, clusters) == pytest.approx(np.mean(drawn), abs=0.6)


def test_clusters_need_items_and_transitions() -> None:
    items = 12 * ITEMS_PER_CLUSTER
    every: Users = [[(k, k) for k in range(items)]]
    assert supported_clusters(facts_of(every * 400, items)) == [3, 6, 12]
    assert supported_clusters(facts_of(every * 100, items)) == []
    assert supported_clusters(facts_of([])) == []
