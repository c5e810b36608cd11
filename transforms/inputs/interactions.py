"""The interactions that every pipeline reads: usable rows, and dead rows with a reason."""

import time
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from transforms.inputs.filters import Period, in_period
from transforms.inputs.input_format import InputFormat
from transforms.inputs.sources import Source
from transforms.inputs.validate import ValidateInteractions


class ReadInteractions(beam.PTransform):
    """Reads interactions of known items; outputs as ValidateInteractions.

    Rows outside the period of the source are not input: they count as neither read nor dead.
    `known_items` is a PCollection of one tuple that begins with the item ids, [items] strings.
    """

    def __init__(
        self, source: Source, known_items: beam.PCollection, needs_rating: bool = False
    ) -> None:
        super().__init__()
        self._needs_rating = needs_rating
        self._source = source
        self._known_items = beam.pvalue.AsSingleton(known_items)
        self._latest = int(time.time() * 1e6)

    def expand(self, begin: beam.pvalue.PBegin) -> Any:
        raw = begin | "Read" >> self._source.read()
        if self._source.period:
            limits = (self._source.period, self._source.written)
            raw = raw | "Period" >> beam.Map(_count_and_keep, *limits).with_output_types(pa.Table)
        return raw | "Validate" >> ValidateInteractions(
            self._known_items, self._latest, self._source.written, self._needs_rating
        )


def _count_and_keep(raw: pa.Table, period: Period, written: InputFormat) -> pa.Table:
    kept = in_period(raw, period, written)
    Metrics.counter(ReadInteractions, "rows_outside_period").inc(raw.num_rows - kept.num_rows)
    return kept
