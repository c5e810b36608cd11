"""Parquet and CSV files as Arrow tables."""

import csv
import difflib
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from transforms.errors import InputError
from transforms.storage import files

BATCH_ROWS = 1 << 20
BATCH_BYTES = 1 << 26  # estimated by the mean size of the rows of a row group
POSITION = "__position"  # of a row in its input; tells the first of two duplicates
MALFORMED = "__malformed"  # text of a CSV line with a wrong number of fields
_CSV_BLOCK = 1 << 25  # bytes; a row must fit in one
_POSITIONS_PER_UNIT = 1 << 32


def find_files(pattern: str, name: str) -> list[str]:
    """List the files of the flag --`name`, or raise InputError if there are none.

    The pattern is a file, a glob, or a folder of .parquet, .csv and .csv.gz files.
    """
    found = files.list_files(pattern.rstrip("/"))
    if not found:
        found = [
            path
            for kind in ("parquet", "csv", "csv.gz")
            for path in files.list_files(files.join(pattern.rstrip("/"), f"*.{kind}"))
        ]
    if not found:
        raise InputError(
            f"--{name}={pattern}: no such file; give a Parquet or CSV file, "
            "a folder of them or a pattern like 'data/*.parquet'"
        )
    return found


def check_columns(paths: list[str], name: str, required: list[str]) -> None:
    """Check the head of each file before any work starts.

    Raises InputError if a file has another format than its name says, lacks a required column or
    repeats a column, or if no file has a row.
    """
    rows = 0
    for path in paths:
        columns, count = _csv_head(path) if _is_csv(path) else _parquet_head(path)
        rows += count
        if not columns:
            raise InputError(f"--{name}: {path} is empty")
        if twice := sorted(column for column, times in Counter(columns).items() if times > 1):
            raise InputError(f"--{name}: {path} has more than one column {twice[0]!r}")
        require_columns(f"--{name}: {path}", columns, required)
    if not rows:
        raise InputError(f"--{name}: {', '.join(paths)} has no rows")


def require_columns(where: str, columns: list[str], required: list[str]) -> None:
    """Raise InputError for the first missing column, with the most similar name as a hint."""
    for column in required:
        if column in columns:
            continue
        close = difflib.get_close_matches(column.lower(), map(str.lower, columns), 1)
        named = [name for name in columns if name.lower() in close]
        hint = f" (did you mean to rename {named[0]!r}?)" if named else ""
        raise InputError(f"{where} has no column {column!r}{hint}; it has: {', '.join(columns)}")


def has_column(paths: list[str], column: str) -> bool:
    """Return whether the first file of an input has a column."""
    columns = _csv_columns(paths[0]) if _is_csv(paths[0]) else _parquet_head(paths[0])[0]
    return column in columns


def _is_csv(path: str) -> bool:
    return path.lower().endswith((".csv", ".csv.gz"))


def _parquet_head(path: str) -> tuple[list[str], int]:
    try:
        with files.open_file(path) as file:
            metadata = pq.read_metadata(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path} is not a Parquet file ({str(error).strip()}); name CSV files .csv"
        ) from None
    return metadata.schema.to_arrow_schema().names, metadata.num_rows


def _csv_head(path: str) -> tuple[list[str], int]:
    """Return the columns, and the number of rows of the first block with rows."""
    with _csv_errors(path):
        rows = (batch.num_rows for batch in _csv_batches(path))
        return _csv_columns(path), next(filter(None, rows), 0)


@contextmanager
def _csv_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8 ({error})") from None


def _csv_columns(path: str) -> list[str]:
    with _open_csv(path) as file:
        lines = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
        return next((fields for fields in lines if fields), [])


def _open_csv(path: str) -> pa.NativeFile:
    compression = "gzip" if path.lower().endswith(".gz") else None
    return pa.input_stream(files.open_file(path), compression=compression)


@dataclass(eq=False)
class ReadTables(beam.PTransform):
    """Reads Parquet and CSV files as Arrow tables of at most BATCH_ROWS rows, about BATCH_BYTES.

    Row groups of Parquet files are read in parallel. All columns of CSV files are strings. Each
    table has a column POSITION [int64]. Malformed CSV lines come as tables with only the columns
    POSITION and MALFORMED.
    """

    paths: tuple[str, ...]

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[pa.Table]:
        return (
            begin
            | "Files" >> beam.Create(list(enumerate(self.paths)))
            | "Split" >> beam.FlatMap(_units)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMapTuple(_read).with_output_types(pa.Table)
        )


def _units(numbered: tuple[int, str]) -> list[tuple[int, str, int]]:
    number, path = numbered
    if _is_csv(path):
        return [(number, path, 0)]
    with files.open_file(path) as file:
        return [(number, path, group) for group in range(pq.read_metadata(file).num_row_groups)]


def _read(number: int, path: str, group: int) -> Iterator[pa.Table]:
    # A file has fewer than 2^16 row groups, and a row group fewer than 2^32 rows.
    position = ((number << 16) + group) * _POSITIONS_PER_UNIT
    with _csv_errors(path) if _is_csv(path) else nullcontext():
        for table in _csv_batches(path) if _is_csv(path) else _parquet_batches(path, group):
            positions = np.arange(position, position + table.num_rows)
            yield table.append_column(POSITION, pa.array(positions))
            position += table.num_rows


def _parquet_batches(path: str, group: int) -> Iterator[pa.Table]:
    with files.open_file(path) as file:
        parquet = pq.ParquetFile(file)
        of_group = parquet.metadata.row_group(group)
        row_bytes = of_group.total_byte_size / max(1, of_group.num_rows)
        rows = int(min(BATCH_ROWS, max(1, BATCH_BYTES / max(1, row_bytes))))
        for batch in parquet.iter_batches(rows, row_groups=[group]):
            yield pa.Table.from_batches([batch])


def _csv_batches(path: str) -> Iterator[pa.Table]:
    malformed: list[str] = []

    def keep(row: pa.csv.InvalidRow) -> str:
        malformed.append(row.text)
        return "skip"

    columns = _csv_columns(path)
    if not columns:
        return
    with _open_csv(path) as file:
        reader = pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(block_size=_CSV_BLOCK, use_threads=False),
            parse_options=pa.csv.ParseOptions(invalid_row_handler=keep, newlines_in_values=True),
            # Strings, so that a dead row is reported as it was written.
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                null_values=[""],
            ),
        )
        for batch in reader:
            yield pa.Table.from_batches([batch])
    if malformed:
        yield pa.table({MALFORMED: pa.array(malformed, pa.string())})
