"""What test users are asked for against a walk through each user's events."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.interests.recent_pairs import RECENT
from transforms import schemas as col
from transforms.evaluation.held_out_transitions import (
    draw_test_cases,
    engagements_by_item,
    held_out_transitions,
    lowest_hashes,
    users_by_pair,
)
from transforms.transitions.splits import SplitSpec

CLUSTERS = np.array([0, 0, 1, 1, 2, 3], np.int32)  # of six items
M = 4
ITEM_IDS = pa.array([f"item {number}" for number in range(len(CLUSTERS))])
histories = st.lists(
    st.lists(st.integers(0, len(CLUSTERS) - 1), min_size=1, max_size=10), min_size=1, max_size=6
)


def sequences(rows: list[list[int]]) -> pa.Table:
    """Return SEQUENCES of users u0, u1, ...; the nth event is at second n."""
    return pa.table(
        [
            pa.array([f"u{number}" for number in range(len(rows))]),
            pa.array([[n * 1_000_000 for n in range(len(row))] for row in rows]),
            pa.array(rows),
        ],
        names=col.SEQUENCES.names,
    ).cast(col.SEQUENCES)


def walked(rows: list[list[int]], cut: int) -> list[tuple]:
    """Return (user, c1, c2, novel, known, recent, item, history) of each from the cut on."""
    found = []
    for number, row in enumerate(rows):
        recent: list[int] = []  # clusters, the latest engagement last
        for second, item in enumerate(row):
            cluster = int(CLUSTERS[item])
            if recent and cluster not in recent and second >= cut:
                pair = recent[-2:] if len(recent) > 1 else recent * 2
                newest = (recent[::-1] + recent[:1] * RECENT)[:RECENT]
                of_user = (f"u{number}", *pair, cluster, set(recent), newest)
                found.append((*of_user, item, row[:second]))
            recent = [*(c for c in recent if c != cluster), cluster]
    return found


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


@settings(max_examples=50)
@given(histories, st.integers(0, 4), st.integers(1, 20))
def test_those_drawn_come_with_the_item_and_what_was_before(
    rows: list[list[int]], cut: int, count: int
) -> None:
    table, at = sequences(rows), cut * 1_000_000
    lowest = lowest_hashes(table, CLUSTERS, at, 0, count)
    expected = walked(rows, cut)
    assert len(lowest) == min(count, len(expected))
    if not len(lowest):
        return
    drawn = draw_test_cases(table, CLUSTERS, ITEM_IDS, at, 0, int(lowest[-1])).to_pylist()
    assert len(drawn) == len(lowest)
    by_key = {(row[0], row[3]): row for row in expected}
    for row in drawn:
        _user, c1, c2, _novel, known, recent, item, history = by_key[row["user_id"], row["novel"]]
        assert (row["c1"], row["c2"], row["item"]) == (c1, c2, item)
        assert row["known"] == sorted(known)
        assert row["recent"] == recent
        assert row["item_ids"] == [f"item {before}" for before in history]


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
    learned = 40 - by_user.users(table, "test").num_rows
    assert 0 < learned < 40
    assert engagements_by_item(table, 6, by_user).tolist() == [learned] * 3 + [0] * 3
    by_time = SplitSpec(0.25, 0.25, 0, 2_000_000)
    assert engagements_by_item(table, 6, by_time).tolist() == [40, 40, 0, 0, 0, 0]
