"""Decayed popularity against its definition."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.retrieval.popularity import HALF_LIVES, decayed_popularity, snapshot_moments

ITEMS, DAY = 3, 86_400_000_000
events = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(0, 50 * DAY)), min_size=1)


def expected(log: list[tuple[int, int]], moment: int, half_life: float) -> list[float]:
    counts = [1.0] * ITEMS
    for item, time in log:
        if time < moment:
            counts[item] += 0.5 ** ((moment - time) / DAY / half_life)
    return [math.log(count / sum(counts)) for count in counts]


@given(events, st.integers(0, 20))
def test_a_snapshot_has_what_was_before_it(log: list[tuple[int, int]], cut: int) -> None:
    items, times = np.array(log, np.int64).T
    moments = snapshot_moments(times, most=5)
    parts = [
        (items[:cut].astype(np.int32), times[:cut]),
        (items[cut:].astype(np.int32), times[cut:]),
    ]
    found = decayed_popularity(parts, ITEMS, moments)
    for snapshot, moment in enumerate(moments):
        for number, half_life in enumerate(HALF_LIVES):
            np.testing.assert_allclose(
                found.logs[:, snapshot, number], expected(log, moment, half_life), atol=1e-4
            )


@given(events)
def test_no_time_sees_itself_or_the_future(log: list[tuple[int, int]]) -> None:
    items, times = np.array(log, np.int64).T
    moments = snapshot_moments(times, most=9)
    found = decayed_popularity([(items.astype(np.int32), times)], ITEMS, moments)
    assert (moments[found.snapshot_at(times)] <= times).all()


@given(events)
def test_now_has_everything(log: list[tuple[int, int]]) -> None:
    items, times = np.array(log, np.int64).T
    found = decayed_popularity(
        [(items.astype(np.int32), times)], ITEMS, snapshot_moments(times, most=9)
    )
    counts = np.bincount(items, minlength=ITEMS) + 1
    np.testing.assert_allclose(found.logs[:, -1, 0], np.log(counts / counts.sum()), rtol=1e-5)
