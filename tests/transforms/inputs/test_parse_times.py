"""Times of every form."""

import datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.inputs.test_parse import chunked
from transforms.inputs.parse_times import AS_DATE, AS_UNIT, EARLY, UNITS, as_times, read_times

NOON = datetime.datetime(2024, 5, 6, 12, 0, 0, 250_000, tzinfo=datetime.UTC)
MICROSECONDS = round(NOON.timestamp() * 1e6)
DAY = 86_400_000_000  # microseconds


@pytest.mark.parametrize(
    "column",
    [
        chunked([NOON], pa.timestamp("us", "UTC")),
        chunked([NOON], pa.timestamp("ms", "America/New_York")),
        chunked([NOON.replace(tzinfo=None)], pa.timestamp("ns")),
        chunked([NOON.timestamp()]),
        chunked([Decimal("1714996800.25")]),
        chunked(["1714996800.25"]),
        chunked([" 1.71499680025e9"]),
        chunked(["1714996800.25"]).dictionary_encode(),
        chunked(["1714996800.25"], pa.string_view()),
        chunked(["2024-05-06T12:00:00.25"]),
        chunked(["2024-05-06 12:00:00.25 UTC"]),  # as BigQuery exports it
        chunked(["2024-05-06T12:00:00.25Z"]),
        chunked([" 2024-05-06T14:00:00.250000+02:00 "]),
        chunked(["20240506T120000.25"]),
        chunked(["2024-05-06 12:00:00.25 GMT"]),
        chunked(["2024-05-06 14:00:00.25 +0200"]),
        chunked(["2024-05-06 14:00:00.25+02"]),  # as Postgres writes it
        chunked([1_714_996_800_250]),
        chunked([1_714_996_800_250_000]),
        chunked(["1714996800250000000"]),
    ],
)
def test_one_moment_is_the_same_in_every_form(column: pa.ChunkedArray) -> None:
    assert as_times(column).to_pylist() == [MICROSECONDS]


@pytest.mark.parametrize(
    "kind", [pa.int32(), pa.int64(), pa.timestamp("s"), pa.timestamp("s", "UTC")]
)
def test_whole_seconds_are_seconds_since_1970(kind: pa.DataType) -> None:
    assert as_times(chunked([1_714_996_800], kind)).to_pylist() == [1_714_996_800_000_000]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.string()])
def test_a_day_is_its_first_moment(kind: pa.DataType) -> None:
    days = chunked([datetime.date(2024, 5, 6)], pa.date32()).cast(kind)
    assert as_times(days).to_pylist() == [1_714_953_600_000_000]


@given(st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30)))
def test_a_timestamp_and_its_text_are_the_same_moment(time: datetime.datetime) -> None:
    as_timestamp = as_times(chunked([time], pa.timestamp("us")))
    assert as_times(chunked([time.isoformat()])).equals(as_timestamp)


@pytest.mark.parametrize(
    "text", ["yesterday", "2024-13-01", "12:30", "nan", "inf", "-1e300", "", "05/06/2024"]
)
def test_what_is_no_time_is_null(text: str) -> None:
    assert as_times(chunked([text, "12"])).to_pylist() == [None, 12_000_000]


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_of_a_number_is_recognised_and_noted(unit: str) -> None:
    number = 1_714_996_800 * UNITS[unit]
    for column in (chunked([number, None]), chunked([str(number), None])):
        times, notes = read_times(column)
        assert times.to_pylist() == [1_714_996_800_000_000, None]
        assert notes == ({} if unit == "s" else {AS_UNIT[unit]: 1})


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_that_is_given_is_taken(unit: str) -> None:
    for column in (chunked([12 * UNITS[unit]]), chunked([f"{12 * UNITS[unit]}"])):
        assert as_times(column, unit).to_pylist() == [12_000_000]


def test_a_sentinel_is_no_finer_unit() -> None:
    year_9999 = 253_402_300_799
    assert as_times(chunked([year_9999])).to_pylist() == [year_9999 * 1_000_000]


@pytest.mark.parametrize("digits", [20240506, 20240506.0, "20240506", 20240506_000000])
def test_digits_of_a_date_are_a_date(digits: object) -> None:
    times, notes = read_times(chunked([digits]))
    assert times.to_pylist() == [1_714_953_600_000_000]
    assert notes == {AS_DATE: 1}


@given(st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2100, 12, 31)))
def test_digits_of_a_time_are_the_time(time: datetime.datetime) -> None:
    whole = time.replace(microsecond=0)
    digits, expected = int(whole.strftime("%Y%m%d%H%M%S")), as_times(chunked([whole.isoformat()]))
    assert as_times(chunked([digits])).equals(expected)


@pytest.mark.parametrize("digits", [20240230, 20241301, 20240500, 20240506_240000])
def test_digits_of_no_date_are_no_time(digits: int) -> None:
    assert as_times(chunked([digits])).to_pylist() == [None]


def test_digits_are_seconds_if_a_flag_says_so() -> None:
    assert as_times(chunked([20240506]), "s").to_pylist() == [20240506_000_000]


@pytest.mark.parametrize(
    ("value", "text_format"),
    [
        ("05/06/2024 12:00:00.25 PM", "%m/%d/%Y %I:%M:%S.%f %p"),
        ("06.05.2024 14:00:00.25 +0200", "%d.%m.%Y %H:%M:%S.%f %z"),
    ],
)
def test_a_format_that_is_given_is_taken(value: str, text_format: str) -> None:
    times = as_times(chunked([value, "soon", None]), None, text_format)
    assert times.to_pylist() == [MICROSECONDS, None, None]


@pytest.mark.parametrize("value", [2024, "2024", 2024.0])
def test_a_format_is_of_numbers_too(value: object) -> None:
    assert as_times(chunked([value]), None, "%Y").to_pylist() == [1_704_067_200_000_000]


@pytest.mark.parametrize("value", [2024, "2024", 45_000, "1970-02-01"])
def test_times_of_long_ago_are_noted(value: object) -> None:
    assert read_times(chunked([value]))[1] == {EARLY: 1}
