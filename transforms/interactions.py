"""The log as every pipeline reads it: usable rows, and the rest with the reason."""

import time
from typing import Any

import apache_beam as beam

from transforms.read_tables import ReadTables
from transforms.validate import ValidateInteractions


class ReadInteractions(beam.PTransform):
    """Reads interactions of known items from files; outputs as ValidateInteractions.

    Parameters
    ----------
    paths
        Parquet or CSV files.
    known_items
        A PCollection of one tuple that begins with the ids of the known items, [items] strings.
    """

    def __init__(self, paths: list[str], known_items: beam.PCollection) -> None:
        super().__init__()
        self._paths = tuple(paths)
        self._known_items = beam.pvalue.AsSingleton(known_items)
        self._latest = int(time.time() * 1e6)

    def expand(self, begin: beam.pvalue.PBegin) -> Any:
        return (
            begin
            | "Read" >> ReadTables(self._paths)
            | "Validate" >> ValidateInteractions(self._known_items, self._latest)
        )
