"""When there is another line, and what it says."""

import logging

import pytest

from tests.transforms.fake_clock import Clock, clock
from transforms.workers.progress import LogThrottle, PartsDone

__all__ = ["clock"]


def test_a_line_is_due_when_the_last_one_is_so_long_ago(clock: Clock) -> None:
    line = LogThrottle(10)
    due = []
    for clock.now in (109.9, 110, 119.9, 120):
        due.append(line.is_due())
    assert due == [False, True, False, True]


def test_the_first_line_may_be_due_at_once(clock: Clock) -> None:
    line = LogThrottle(10, at_once=True)
    assert [line.is_due(), line.is_due()] == [True, False]


def test_another_line_counts_as_one(clock: Clock) -> None:
    line = LogThrottle(10)
    clock.now = 109
    line.restart()
    clock.now = 118
    assert not line.is_due()


def test_parts_tell_how_many_are_done_and_how_fast(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    done = PartsDone("recommend", "users", 10)
    clock.now = 104
    done.add_rows(1_500)
    done.add_part()
    clock.now = 110
    done.add_rows(500)
    assert caplog.messages == ["recommend: 1 of 64 parts done, 2,000 users, 200 a second"]
