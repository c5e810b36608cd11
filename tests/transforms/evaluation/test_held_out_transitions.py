"""What test users are asked for against a walk through each user's events."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.transitions.walked_histories import (
    CLUSTERS,
    M,
    histories,
    sequences,
    walked,
)
from transforms.evaluation.held_out_transitions import (
    engagements_by_item,
    held_out_transitions,
    users_by_pair,
)
from transforms.transitions.splits import SplitSpec


@settings(max_examples=50)
@given(histories, st.integers(0, 4), st.integers(1, 5))
def test_transitions_come_with_what_the_user_knew(
    rows: list[list[int]], cut: int, at_a_time: int
) -> None:
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transforms.evaluation.held_out_transitions._ROWS", at_a_time)
        for some in held_out_transitions(sequences(rows), CLUSTERS, M, cut * 1_000_000):
            for row, known in enumerate(some.known()):
                pair = (some.c1[row], some.c2[row], some.novel[row])
                user = some.user_ids[some.user[row]].as_py()
                known_clusters = set(np.flatnonzero(known).tolist())
                recent = some.recent[row].tolist()
                found.append((user, *map(int, pair), known_clusters, recent))
    assert found == [row[:6] for row in walked(rows, cut)]


@given(histories)
def test_pairs_are_the_two_latest_interests(rows: list[list[int]]) -> None:
    expected = np.zeros((M, M), int)
    for row in rows:
        latest = list(dict.fromkeys(CLUSTERS[item] for item in reversed(row)))
        expected[latest[1] if len(latest) > 1 else latest[0], latest[0]] += 1
    assert users_by_pair(sequences(rows), CLUSTERS, M).tolist() == expected.ravel().tolist()


def test_popularity_is_of_all_that_the_retriever_learns_from() -> None:
    table = sequences([[0, 1, 2]] * 40)
    by_user = SplitSpec(0.25, 0.25, 0, None)
    learned = 40 - (table.num_rows - by_user.users(table, "train").num_rows)
    assert 0 < learned < 40
    assert engagements_by_item(table, 6, by_user).tolist() == [learned] * 3 + [0] * 3
    by_time = SplitSpec(0.25, 0.25, 0, 2_000_000)
    assert engagements_by_item(table, 6, by_time).tolist() == [40, 40, 0, 0, 0, 0]
