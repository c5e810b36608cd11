"""Which interactions count: those of a period, before or after a cut, or with a minimum rating."""

import datetime
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from transforms import schemas as col
from transforms.inputs.input_format import MALFORMED, STANDARD, InputFormat
from transforms.inputs.parse_times import as_times, restrictions

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Period:
    """A period of time; None is no limit."""

    since: int | None = None  # microseconds since 1970, inclusive
    until: int | None = None  # microseconds since 1970, exclusive

    def __bool__(self) -> bool:
        """Return whether the period has a limit."""
        return self != Period()

    def restriction(self, kind: str, column: str = col.TIMESTAMP, unit: str | None = None) -> str:
        """Return the row restriction for a BigQuery column of times of a type.

        It is "" if the type allows none. Rows without a time pass, so that they are reported in
        the dead letter. `unit` is that of numbers, if it is given.
        """
        if not self:
            return ""
        if kind == "INTEGER":
            each = restrictions(column, self.since, self.until, unit)
            return " OR ".join([f"{column} IS NULL", *(f"({one})" for one in each)])
        if kind != "TIMESTAMP":
            return ""
        limits = [
            f"{column} {sign} {_timestamp(time)}"
            for sign, time in ((">=", self.since), ("<", self.until))
            if time is not None
        ]
        return f"{column} IS NULL OR ({' AND '.join(limits)})"


ALWAYS = Period()


def _timestamp(microseconds: int) -> str:
    time = _EPOCH + datetime.timedelta(microseconds=microseconds)
    return f'TIMESTAMP "{time.isoformat(sep=" ")}"'


def in_period(raw: pa.Table, period: Period, written: InputFormat = STANDARD) -> pa.Table:
    """Keep the raw interactions of a period, and those without a readable time."""
    if MALFORMED in raw.column_names:
        return raw
    column = raw[written.name_of(col.TIMESTAMP)]
    times = as_times(column, written.timestamp_unit, written.timestamp_format)
    keep = pa.scalar(True)
    if period.since is not None:
        keep = pc.and_(keep, pc.greater_equal(times, period.since))
    if period.until is not None:
        keep = pc.and_(keep, pc.less(times, period.until))
    return raw.filter(pc.or_kleene(pc.is_null(times), keep))


def before(table: pa.Table, cut: int | None) -> pa.Table:
    """Keep the rows with a timestamp before a cut, in microseconds since 1970; None keeps all."""
    return table if cut is None else table.filter(pc.less(table[col.TIMESTAMP], _moment(cut)))


def from_on(table: pa.Table, cut: int | None) -> pa.Table:
    """Keep the rows at a cut or later, in microseconds since 1970; None keeps all."""
    if cut is None:
        return table
    return table.filter(pc.greater_equal(table[col.TIMESTAMP], _moment(cut)))


def _moment(microseconds: int) -> pa.Scalar:
    return pa.scalar(microseconds, col.TIME_TYPE)


def filter_engagements(interactions: pa.Table, min_rating: float | None) -> pa.Table:
    """Keep the interactions in which the user engages: rating >= min_rating (None: all)."""
    if min_rating is None:
        return interactions
    # 3.3 as float32 is less than 3.3 as float64.
    least = pa.scalar(min_rating, pa.float32())
    return interactions.filter(pc.greater_equal(interactions[col.RATING], least))
