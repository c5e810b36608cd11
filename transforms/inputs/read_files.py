"""Parquet files, JSON lines and delimited text as Arrow tables."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import InputError
from transforms.inputs.find_files import partition_columns
from transforms.inputs.formats import delimited, json_lines
from transforms.inputs.formats.text_blocks import (
    BLOCK_BYTES,
    HEAD_BYTES,
    is_json,
    parquet_metadata,
    read_blocks,
    read_errors,
)
from transforms.inputs.input_format import MALFORMED, POSITION, STANDARD, InputFormat
from transforms.inputs.match_columns import require_columns
from transforms.storage import files

BATCH_ROWS = 1 << 20
BATCH_BYTES = 1 << 26  # estimated by the mean size of the rows of a row group
_JSON_BLOCK_BYTES = 1 << 23  # Python objects take several times the size of the text
_POSITIONS_PER_UNIT = 1 << 32


def check_columns(paths: list[str], name: str, required: list[str], written: InputFormat) -> None:
    """Check the head of each file before any work starts.

    Raises InputError if a file is of no format that can be read, lacks a required column or repeats
    a column, or if no file has a row.
    """
    has_rows = False
    for path in paths:
        columns, is_filled = _head(path, written)
        has_rows |= is_filled
        if not columns:
            raise InputError(f"--{name}: {path} is empty")
        hint = f"; to read a part of {len(paths)} files, give a pattern" if len(paths) > 1 else ""
        require_columns(f"--{name}: {path}", name, columns, required, written, hint)
        if twice := sorted(column for column, times in Counter(columns).items() if times > 1):
            raise InputError(f"--{name}: {path} has more than one column {twice[0]!r}")
    if not has_rows:
        raise InputError(f"--{name}: {', '.join(paths)} has no rows")


def has_column(paths: list[str], column: str, written: InputFormat) -> bool:
    """Return whether the first file of an input has one of our columns."""
    return written.name_of(column) in _head(paths[0], written)[0]


def _head(path: str, written: InputFormat) -> tuple[list[str], bool]:
    """Return the columns of a file, with those of its folders, and whether it has rows."""
    if (metadata := parquet_metadata(path)) is not None:
        columns, is_filled = metadata.schema.to_arrow_schema().names, metadata.num_rows > 0
    elif is_json(path, written.encoding):
        columns, is_filled = json_lines.first_columns(_first_lines(path, written)), True
        if not columns:
            raise InputError(f"{path} has no line that is a JSON object; write one object a line")
    else:
        lines = _first_lines(path, written)
        layout = delimited.layout_of(lines, written)
        columns = list(layout.columns)
        is_filled = len(lines.split(b"\n", layout.before)[-1].strip()) > 0
    return columns + [one for one in partition_columns(path) if one not in columns], is_filled


def _first_lines(path: str, written: InputFormat) -> bytes:
    return next(read_blocks(path, written.encoding, HEAD_BYTES), b"")


@dataclass(eq=False)
class ReadTables(beam.PTransform):
    """Reads files as Arrow tables.

    Row groups of Parquet files are read in parallel, as tables of at most BATCH_ROWS rows and about
    BATCH_BYTES. Texts are read in blocks of BLOCK_BYTES; all their columns are strings. Each table
    has a column POSITION [int64]. Lines that are no rows come as tables with the columns MALFORMED
    and REASON.
    """

    paths: tuple[str, ...]
    written: InputFormat = STANDARD

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[pa.Table]:
        return (
            begin
            | "Files" >> beam.Create(list(enumerate(self.paths)))
            | "Split" >> beam.FlatMap(self._units)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMapTuple(self._read).with_output_types(pa.Table)
        )

    def _units(self, numbered: tuple[int, str]) -> list[tuple[int, str, int | None]]:
        """Return a unit for each row group of a Parquet file, and one for a text."""
        number, path = numbered
        metadata = parquet_metadata(path)
        if metadata is None:
            return [(number, path, None)]
        return [(number, path, group) for group in range(metadata.num_row_groups)]

    def _read(self, number: int, path: str, group: int | None) -> Iterator[pa.Table]:
        # A file has fewer than 2^16 row groups, and a row group fewer than 2^32 rows.
        position = ((number << 16) + (group or 0)) * _POSITIONS_PER_UNIT
        tables = _texts(path, self.written) if group is None else _parquet(path, group)
        with read_errors(path):
            for table in tables:
                positions = np.arange(position, position + table.num_rows)
                position += table.num_rows
                table = table.append_column(POSITION, pa.array(positions))
                yield table if MALFORMED in table.column_names else _with_partitions(table, path)


def _with_partitions(table: pa.Table, path: str) -> pa.Table:
    """Return a table with the columns of its folders; those of the file go before."""
    for name, value in partition_columns(path).items():
        if name not in table.column_names:
            values = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
            table = table.append_column(name, values)
    return table


def _parquet(path: str, group: int) -> Iterator[pa.Table]:
    with files.open_file(path) as file:
        parquet = pq.ParquetFile(file)
        of_group = parquet.metadata.row_group(group)
        row_bytes = of_group.total_byte_size / max(1, of_group.num_rows)
        rows = int(min(BATCH_ROWS, max(1, BATCH_BYTES / max(1, row_bytes))))
        for batch in parquet.iter_batches(rows, row_groups=[group]):
            yield pa.Table.from_batches([batch])


def _texts(path: str, written: InputFormat) -> Iterator[pa.Table]:
    tables: Iterator[pa.Table]
    first = _first_lines(path, written)
    if is_json(path, written.encoding):
        columns = json_lines.first_columns(first)
        blocks = read_blocks(path, written.encoding, _JSON_BLOCK_BYTES)
        tables = itertools.chain.from_iterable(
            json_lines.parse_block(block, columns) for block in blocks
        )
    else:
        layout = delimited.layout_of(first, written)
        if not layout.columns:
            return
        blocks = read_blocks(path, written.encoding, BLOCK_BYTES)
        tables = delimited.read_tables(blocks, layout, written.newlines_in_values)
    yield from (table for table in tables if table.num_rows)
