"""Filters of interactions by time and by rating."""

import datetime
import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.inputs.filters import Period, before, filter_engagements, from_on, in_period
from transforms.inputs.input_format import MALFORMED

HOUR = 3_600_000_000  # microseconds


def test_the_restriction_of_a_timestamp_is_made_of_literals() -> None:
    assert Period(1_500_000, 2 * HOUR).restriction("TIMESTAMP") == (
        'timestamp IS NULL OR (timestamp >= TIMESTAMP "1970-01-01 00:00:01.500000+00:00" '
        'AND timestamp < TIMESTAMP "1970-01-01 02:00:00+00:00")'
    )


@given(
    st.integers(-(10**6), 10**6),
    st.none() | st.integers(-(10**12), 10**12),
    st.none() | st.integers(-(10**12), 10**12),
)
def test_whole_seconds_are_compared_as_their_times_are(
    second: int, since: int | None, until: int | None
) -> None:
    period = Period(since, until)
    written = period.restriction("INTEGER", unit="s")
    limits = written.partition("OR ")[2].replace("AND", "and").replace("OR", "or") or "True"
    time = second * 1_000_000
    expected = (since is None or time >= since) and (until is None or time < until)
    assert eval(limits, {"timestamp": second}) == expected


MOMENTS = st.integers(-(10**9), 4 * 10**9)  # seconds


@given(MOMENTS, st.none() | MOMENTS, st.none() | MOMENTS, st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_no_number_of_the_period_is_left_out(
    second: int, since: int | None, until: int | None, per_second: int
) -> None:
    limits = [None if time is None else time * 10**6 for time in (since, until)]
    raw = pa.table({"timestamp": [second * per_second]})
    kept = in_period(raw, Period(*limits)).num_rows
    asked = Period(*limits).restriction("INTEGER")
    asked = re.sub(r"timestamp BETWEEN (\d+) AND (\d+)", r"\1 <= timestamp <= \2", asked)
    asked = asked.replace("timestamp IS NULL OR", "").replace("AND", "and").replace("OR", "or")
    assert kept <= eval(asked or "True", {"timestamp": second * per_second})


@pytest.mark.parametrize("kind", ["STRING", "DATE", "", "RECORD"])
def test_other_types_are_left_to_the_pipeline(kind: str) -> None:
    assert Period(0, HOUR).restriction(kind) == ""


TIMES = st.none() | st.integers(-3 * HOUR, 3 * HOUR)


@given(st.lists(TIMES), TIMES, TIMES)
def test_rows_of_the_period_and_those_without_a_time_are_kept(
    times: list[int | None], since: int | None, until: int | None
) -> None:
    raw = pa.table({"timestamp": pa.array(times, pa.timestamp("us", tz="UTC"))})
    kept = in_period(raw, Period(since, until))["timestamp"].cast(pa.int64()).to_pylist()
    assert kept == [
        time
        for time in times
        if time is None or ((since is None or time >= since) and (until is None or time < until))
    ]


def test_since_is_in_and_until_is_not() -> None:
    raw = pa.table({"timestamp": ["2024-01-01", "2024-01-02", "next week"]})
    days = [datetime.datetime(2024, 1, day, tzinfo=datetime.UTC) for day in (1, 2)]
    period = Period(*(int(day.timestamp() * 1e6) for day in days))
    assert in_period(raw, period)["timestamp"].to_pylist() == ["2024-01-01", "next week"]


def test_malformed_lines_are_of_any_period() -> None:
    raw = pa.table({MALFORMED: ["a line"]})
    assert in_period(raw, Period(0, 1)) is raw


@pytest.mark.parametrize("cut", [None, 0, 5, 6, 9])
def test_a_cut_has_every_row_on_one_side(cut: int | None) -> None:
    table = pa.table({"timestamp": pa.array([0, 5, 6], pa.timestamp("us", tz="UTC"))})
    early, late = (keep(table, cut)["timestamp"].cast(pa.int64()) for keep in (before, from_on))
    if cut is None:
        assert early.to_pylist() == late.to_pylist() == [0, 5, 6]
    else:
        assert early.to_pylist() == [time for time in (0, 5, 6) if time < cut]
        assert late.to_pylist() == [time for time in (0, 5, 6) if time >= cut]


@pytest.mark.parametrize("least", [3.3, 3, -1.0])
def test_a_rating_equal_to_the_least_is_positive(least: float) -> None:
    ratings = pa.array([least, least - 0.1, None, least + 0.1], pa.float32())
    table = pa.table({"rating": ratings})
    assert filter_engagements(table, least)["rating"].equals(
        pa.chunked_array([ratings.take([0, 3])])
    )


def test_without_a_least_rating_all_are_positive() -> None:
    table = pa.table({"rating": [1.0, None]})
    assert filter_engagements(table, None) is table
