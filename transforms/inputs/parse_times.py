"""Converts times of any form to microseconds since 1970."""

import datetime
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.inputs.parse import as_texts, decoded

# The units of numbers, per second, and how the notes call them.
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
# A number is of the first unit in which it lies before this moment in the next finer unit, the year
# 2000: in seconds that would be the year 31969. A sentinel such as the year 9999 in seconds stays
# in the future.
_YEAR_2000 = 946_684_800  # seconds since 1970
_BOUNDS = [_YEAR_2000 * UNITS[finer] for finer in ("ms", "us", "ns")]
_YEAR_1990 = 631_152_000
_YEAR_1 = -62_135_596_800
# Numbers whose digits are a date, such as 20231114 or 20231114223000.
DATES, DATES_AND_TIMES = (19700101, 21001231), (19700101_000000, 21001231_235959)
_TICKS = {"s": 1, "ms": 1_000}  # per second, of timestamps that could overflow as microseconds
_NUMBER = r"^[+-]?\d{1,30}(\.\d{1,30})?([eE]\+?\d{1,2})?$"
_OFFSET = re.compile(r" ([+-]\d{2}:?\d{2})$")
AS_UNIT = {unit: f"timestamps are read as {name} since 1970" for unit, name in _NAMES.items()}
AS_DATE = "timestamps are read as dates in digits, such as 20231114"
EARLY = "timestamps lie before 1990: see whether --timestamp_unit or --timestamp_format is needed"

Notes = Counter[str]  # how many values were read in a way that the user should know of


def as_times(
    column: pa.ChunkedArray, unit: str | None = None, text_format: str | None = None
) -> pa.Array:
    """Return times as microseconds since 1970 in UTC; null if the value is not a time.

    Takes timestamps (UTC if they have no zone), dates, numbers, and strings with a number or with
    ISO 8601. The unit of a number follows from its magnitude unless it is given, of UNITS.
    `text_format` is that of `datetime.strptime`, in place of ISO 8601.
    """
    return read_times(column, unit, text_format)[0]


def read_times(
    column: pa.ChunkedArray, unit: str | None = None, text_format: str | None = None
) -> tuple[pa.Array, Notes]:
    """Return `as_times`, and notes."""
    column = decoded(column)
    kind, notes = column.type, Notes()
    if pa.types.is_date(kind):
        column, kind = column.cast(pa.timestamp("s")), pa.timestamp("s")
    if pa.types.is_timestamp(kind) and kind.unit in _TICKS:
        times = _microseconds(column.cast(pa.int64()).to_numpy() / _TICKS[kind.unit])
    elif pa.types.is_timestamp(kind):
        times = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).combine_chunks()
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
        times = _of_numbers(numbers, unit, text_format, notes)
    else:
        times = _of_texts(as_texts(column, "timestamp", "a time"), unit, text_format, notes)
    if early := pc.sum(pc.less(times, _YEAR_1990 * 10**6)).as_py():
        notes[EARLY] += early
    return times, notes


def _of_texts(
    texts: pa.ChunkedArray, unit: str | None, text_format: str | None, notes: Notes
) -> pa.Array:
    texts = pc.utf8_trim_whitespace(texts).combine_chunks()
    pattern = _NUMBER if text_format is None else "$."  # which matches nothing
    is_number = pc.fill_null(pc.match_substring_regex(texts, pattern), True)
    numbers = pc.if_else(is_number, texts, pa.scalar(None, pa.string())).cast(pa.float64())
    times = _of_numbers(numbers.to_numpy(zero_copy_only=False), unit, None, notes)
    others = texts.filter(pc.invert(is_number)).dictionary_encode()  # a log of dates has few
    parsed = [_parse(text, text_format) for text in others.dictionary.to_pylist()]
    found = pa.array(parsed, pa.int64()).take(others.indices)
    return pc.replace_with_mask(times, pc.invert(is_number), found)


def _of_numbers(
    numbers: np.ndarray, unit: str | None, text_format: str | None, notes: Notes
) -> pa.Array:
    if text_format is not None:  # the digits are the text
        texts = pa.chunked_array([pa.array(numbers, from_pandas=True).cast(pa.int64(), safe=False)])
        return _of_texts(texts.cast(pa.string()), unit, text_format, notes)
    if unit is not None:
        return _microseconds(numbers / UNITS[unit])
    finer, seconds = np.zeros(len(numbers), int), numbers.copy()
    if (numbers >= _BOUNDS[0]).any():
        finer = np.searchsorted(_BOUNDS, numbers, side="right")  # NaN comes last
        seconds = numbers / np.array(list(UNITS.values()))[finer]
    is_date = _read_dates(numbers, seconds)
    counts = np.bincount(finer[np.isfinite(numbers) & ~is_date], minlength=len(UNITS)).tolist()
    noted = {AS_UNIT[name]: count for name, count in zip(UNITS, counts, strict=True)}
    noted |= {AS_UNIT["s"]: 0, AS_DATE: int(is_date.sum())}
    notes += Notes(noted)
    return _microseconds(seconds)


def _read_dates(numbers: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Set the `seconds` of numbers whose digits are a date, to NaN where no such date exists.

    Returns which numbers these are, [n] bool.
    """
    is_date = np.zeros(len(numbers), bool)
    for (first, last), of_day in ((DATES, 1), (DATES_AND_TIMES, 10**6)):
        at = np.flatnonzero((numbers >= first) & (numbers <= last))
        at = at[numbers[at] % 1 == 0]
        if not len(at):
            continue
        day, clock = np.divmod(numbers[at].astype(np.int64), of_day)
        year, month, of_month = day // 10_000, day // 100 % 100, day % 100
        months = (12 * (year - 1970) + month - 1).astype("M8[M]")
        days = months.astype("M8[D]") + (of_month - 1)
        hour, minute, second = clock // 10_000, clock // 100 % 100, clock % 100
        exists = (month >= 1) & (month <= 12) & (of_month >= 1) & (days.astype("M8[M]") == months)
        exists &= (hour < 24) & (minute < 60) & (second < 60)
        found = days.astype(np.int64) * 86_400 + hour * 3600 + minute * 60 + second
        seconds[at] = np.where(exists, found, np.nan)
        is_date[at] = True
    return is_date


def _microseconds(seconds: np.ndarray) -> pa.Array:
    # ISO 8601 begins at the year 1. Far years stay in the future when they are clipped to the range
    # of the type.
    usable = np.isfinite(seconds) & (seconds >= _YEAR_1)
    rounded = np.round(np.where(usable, np.minimum(seconds, 9e11), 0) * 1e6)
    return pa.array(rounded.astype(np.int64), mask=~usable)


def _parse(text: str, text_format: str | None) -> int | None:
    try:
        if text_format is not None:
            time = datetime.datetime.strptime(text, text_format)
        else:
            time = datetime.datetime.fromisoformat(_iso(text))
    except ValueError:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=datetime.UTC)
    return (time - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(
        microseconds=1
    )


def _iso(text: str) -> str:
    """Return a time as BigQuery, HTTP and Unix write it in the form of ISO 8601."""
    for zone in (" UTC", " GMT", " Z"):
        if text.endswith(zone):
            return text.removesuffix(zone) + "+00:00"
    return _OFFSET.sub(r"\1", text)


def restrictions(
    column: str, since: int | None, until: int | None, unit: str | None
) -> Iterator[str]:
    """Yield conditions in SQL, one of which each number of a time in a period fulfils.

    `since` and `until` (exclusive) are microseconds since 1970, `unit` as of `as_times`.
    """
    for name in UNITS if unit is None else (unit,):
        limits = [
            (sign, -(-time * UNITS[name] // 10**6))  # rounded up: no whole number lies between
            for sign, time in ((">=", since), ("<", until))
            if time is not None
        ]
        if unit is None and name != "s":
            limits.append((">=", _YEAR_2000 * UNITS[name]))
        yield " AND ".join(f"{column} {sign} {number}" for sign, number in limits)
    yield f"{column} < {_YEAR_1 * UNITS[unit or 's']}"  # no time at all
    if unit is None:
        for first, last in (DATES, DATES_AND_TIMES):
            yield f"{column} BETWEEN {first} AND {last}"
