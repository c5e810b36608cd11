"""The log as every pipeline reads it: usable rows, and the rest with the reason."""

import time
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from transforms import schemas as col
from transforms.inputs.parse import as_times
from transforms.inputs.read_files import MALFORMED
from transforms.inputs.sources import Period, Source
from transforms.inputs.validate import ValidateInteractions


def in_period(raw: pa.Table, period: Period) -> pa.Table:
    """Keep the raw interactions of a period, and those without a time that can be read."""
    if MALFORMED in raw.column_names:
        return raw
    times = as_times(raw[col.TIMESTAMP])
    keep = pa.scalar(True)
    if period.since is not None:
        keep = pc.and_(keep, pc.greater_equal(times, period.since))
    if period.until is not None:
        keep = pc.and_(keep, pc.less(times, period.until))
    return raw.filter(pc.or_kleene(pc.is_null(times), keep))


def before(table: pa.Table, cut: int | None) -> pa.Table:
    """Keep the rows whose timestamp is before a cut.

    Parameters
    ----------
    table
        With a column timestamp, of type TIME_TYPE.
    cut
        Microseconds since 1970; None keeps all.
    """
    return table if cut is None else table.filter(pc.less(table[col.TIMESTAMP], _moment(cut)))


def from_on(table: pa.Table, cut: int | None) -> pa.Table:
    """Keep the other rows than `before`, those at the cut or later; None keeps all here too."""
    if cut is None:
        return table
    return table.filter(pc.greater_equal(table[col.TIMESTAMP], _moment(cut)))


def _moment(microseconds: int) -> pa.Scalar:
    return pa.scalar(microseconds, col.TIME_TYPE)


def _count_and_keep(raw: pa.Table, period: Period) -> pa.Table:
    kept = in_period(raw, period)
    Metrics.counter("interactions", "rows_outside_period").inc(raw.num_rows - kept.num_rows)
    return kept


class ReadInteractions(beam.PTransform):
    """Reads interactions of known items; outputs as ValidateInteractions.

    Rows outside the source's period are no input: they are neither read nor dead.

    Parameters
    ----------
    source
        Where they come from.
    known_items
        A PCollection of one tuple that begins with the ids of the known items, [items] strings.
    """

    def __init__(self, source: Source, known_items: beam.PCollection) -> None:
        super().__init__()
        self._source = source
        self._known_items = beam.pvalue.AsSingleton(known_items)
        self._latest = int(time.time() * 1e6)

    def expand(self, begin: beam.pvalue.PBegin) -> Any:
        raw = begin | "Read" >> self._source.read()
        if self._source.period:
            period = self._source.period
            raw = raw | "Period" >> beam.Map(_count_and_keep, period).with_output_types(pa.Table)
        return raw | "Validate" >> ValidateInteractions(self._known_items, self._latest)
