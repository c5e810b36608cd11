"""What the flags --interactions and --items may name, and which rows of it are input."""

import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import InputError
from transforms.inputs.interactions import in_period
from transforms.inputs.read_files import MALFORMED
from transforms.inputs.sources import FileSource, Period, QuerySource, TableSource, find_source

HOUR = 3_600_000_000  # microseconds


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("bq://my-project.shop.log", TableSource),
        ("SELECT * FROM `my-project.shop.log`", QuerySource),
        ("\n with a AS (SELECT 1) SELECT * FROM a", QuerySource),
    ],
)
def test_the_kind_follows_from_the_value(value: str, kind: type) -> None:
    assert type(find_source(value, "interactions")) is kind


def test_a_file_that_begins_like_a_query_is_a_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("selected.csv").write_text("user_id\n")
    assert type(find_source("selected.csv", "interactions")) is FileSource


def test_a_name_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"--items: 'shop.log' is not a BigQuery table"):
        find_source("bq://shop.log", "items")


@pytest.mark.parametrize("value", ["log.parquet", "SELECT 1", "SELECT " + "a, " * 50 + "b"])
def test_a_row_restriction_is_for_tables(value: str) -> None:
    with pytest.raises(InputError, match="--row_restriction is for BigQuery tables") as error:
        find_source(value, "interactions", row_restriction="a = 1")
    assert len(str(error.value)) < 250


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
    written = period.restriction("INTEGER")
    limits = written.partition("OR ")[2].replace("AND", "and") or "True"
    time = second * 1_000_000
    expected = (since is None or time >= since) and (until is None or time < until)
    assert eval(limits, {"timestamp": second}) == expected


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
