"""The drawn transitions against a walk through each user's events."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.transitions.walked_histories import (
    CLUSTERS,
    ITEM_IDS,
    histories,
    sequences,
    walked,
)
from transforms.transitions.held_out_cases import draw_cases, known_clusters, lowest_hashes


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
    drawn = draw_cases(table, CLUSTERS, ITEM_IDS, at, 0, int(lowest[-1])).to_pylist()
    assert len(drawn) == len(lowest)
    by_key = {(row[0], row[3]): row for row in expected}
    for row in drawn:
        _user, c1, c2, _novel, known, recent, item, history = by_key[row["user_id"], row["novel"]]
        assert (row["c1"], row["c2"], row["item"]) == (c1, c2, item)
        assert row["known"] == sorted(known)
        assert row["recent"] == recent
        assert row["item_ids"] == [f"item {before}" for before in history]


def test_known_clusters_are_a_mask() -> None:
    table, at = sequences([[0, 2, 4]]), 0
    highest = int(lowest_hashes(table, CLUSTERS, at, 0, 2)[-1])
    cases = draw_cases(table, CLUSTERS, ITEM_IDS, at, 0, highest).sort_by("novel")
    assert known_clusters(cases, 4).tolist() == [
        [True, False, False, False],
        [True, True, False, False],
    ]
