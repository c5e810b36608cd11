"""Where interactions and items come from: files, a BigQuery table or a query."""

from __future__ import annotations

import datetime
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import apache_beam as beam

from transforms import schemas as col
from transforms.errors import InputError
from transforms.inputs.filters import ALWAYS, Period
from transforms.inputs.find_files import find_files
from transforms.inputs.input_format import COLUMNS, STANDARD, InputFormat
from transforms.inputs.match_columns import require_columns
from transforms.inputs.read_bigquery import ROLES, ReadBigQuery, create_session
from transforms.inputs.read_files import (
    ReadTables,
    check_columns,
    has_column,
)
from transforms.storage import bigquery_client, files
from transforms.storage.bigquery_client import TableName

if TYPE_CHECKING:
    from google.cloud.bigquery import Client, QueryJob, Table

TABLE_PREFIX = "bq://"
_QUERY = re.compile(r"\s*(SELECT|WITH)\s", re.IGNORECASE)

_IDS = ("STRING", "INTEGER", "BYTES", "FLOAT", "NUMERIC", "BIGNUMERIC")
_NUMBERS = ("FLOAT", "INTEGER", "NUMERIC", "BIGNUMERIC", "STRING")
# The types that columns of BigQuery may have. Only the COLUMNS are read from there, and so shown in
# the dead letter. Files are read with all columns; their types are checked while they are read.
_TYPES = {
    col.USER_ID: _IDS,
    col.ITEM_ID: _IDS,
    col.TIMESTAMP: ("TIMESTAMP", "DATETIME", "DATE", *_NUMBERS),
    col.RATING: _NUMBERS,
    col.TITLE: ("STRING",),
    col.KEYWORDS: ("STRING", "REPEATED STRING"),
    col.TEXT: ("STRING",),
    col.EMBEDDING: ("REPEATED FLOAT", "REPEATED INTEGER"),
    col.ELIGIBLE: ("BOOLEAN", "INTEGER", "STRING"),
}
_LEGACY = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
_READABLE = ("TABLE", "SNAPSHOT")


@dataclass(frozen=True)
class Source(ABC):
    """An input that a flag names."""

    value: str  # of the flag
    name: str  # of the flag
    period: Period = ALWAYS  # ReadInteractions drops the other rows, if the source reads them
    project: str | None = None  # that BigQuery bills; None: the project of the environment
    written: InputFormat = STANDARD

    ordered: ClassVar[bool] = False  # whether POSITION tells which of two rows was first

    @property
    def paths(self) -> list[str]:
        """The files that it reads."""
        return []

    @abstractmethod
    def check(self, required: list[str]) -> None:
        """Raise InputError, before any work, if the input lacks a column or is not readable."""

    @abstractmethod
    def has_column(self, column: str) -> bool:
        """Return whether the input has a column."""

    @abstractmethod
    def fingerprint(self) -> list[str]:
        """Return strings that change with the content. Period and restriction are not in them."""

    @abstractmethod
    def read(self) -> beam.PTransform:
        """Return a transform that reads tables with a column POSITION."""


def find_source(
    value: str,
    name: str,
    period: Period = ALWAYS,
    row_restriction: str | None = None,
    project: str | None = None,
    written: InputFormat = STANDARD,
) -> Source:
    """Return the source that a flag names.

    The value is a file, folder or pattern, bq://project.dataset.table, or a query in GoogleSQL.
    Raises InputError if it is none of these, no file is there, or a row restriction (BigQuery's
    language) is given for an input that is no table.
    """
    if value.startswith(TABLE_PREFIX):
        return TableSource(value, name, period, project, written, row_restriction or "")
    if row_restriction is not None:
        raise InputError(
            f"--row_restriction is for BigQuery tables, not for --{name}={_short(value)}; "
            "in a query, use WHERE"
        )
    kind = QuerySource if _QUERY.match(value) else FileSource
    return kind(value, name, period, project, written)


def _short(value: str) -> str:
    text = " ".join(value.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class FileSource(Source):
    """Files."""

    ordered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raise InputError if there is no file."""
        _ = self.paths

    @cached_property
    def paths(self) -> list[str]:
        return find_files(self.value, self.name)

    def check(self, required: list[str]) -> None:
        check_columns(self.paths, self.name, required, self.written)

    def has_column(self, column: str) -> bool:
        return has_column(self.paths, column, self.written)

    def fingerprint(self) -> list[str]:
        return files.fingerprints(self.paths)

    def read(self) -> beam.PTransform:
        return ReadTables(tuple(self.paths), self.written)


@dataclass(frozen=True)
class _BigQuerySource(Source):
    """A table or a query: its schema is known, and only some columns are read."""

    @property
    @abstractmethod
    def _described(self) -> Table | QueryJob:
        """The table, or a dry run of the query."""

    @property
    def _where(self) -> str:
        return f"--{self.name}: {_short(self.value)}"

    @cached_property
    def _types(self) -> dict[str, str]:
        """The BigQuery type of each column, as the REST API calls it."""
        return {
            field.name: ("REPEATED " if field.mode == "REPEATED" else "")
            + _LEGACY.get(field.field_type, field.field_type)
            for field in self._described.schema or []
        }

    def has_column(self, column: str) -> bool:
        return self.written.name_of(column) in self._types

    @property
    def _columns(self) -> tuple[str, ...]:
        """The columns to read, by the names of the input."""
        names = map(self.written.name_of, COLUMNS[self.name])
        return tuple(name for name in names if name in self._types)

    def _check_schema(self, required: list[str]) -> None:
        require_columns(self._where, self.name, list(self._types), required, self.written)
        for ours in COLUMNS[self.name]:
            column, fitting = self.written.name_of(ours), _TYPES[ours]
            if (kind := self._types.get(column, fitting[0])) not in fitting:
                raise InputError(
                    f"{self._where}: the column {column!r} is {kind}, not "
                    f"{' or '.join(fitting)}; a query can CAST it"
                )


@dataclass(frozen=True)
class TableSource(_BigQuerySource):
    """A BigQuery table."""

    row_restriction: str = ""

    def __post_init__(self) -> None:
        """Raise InputError if the value does not name a table."""
        _ = self._table_name

    @property
    def _table_name(self) -> TableName:
        return TableName.parse(self.value.removeprefix(TABLE_PREFIX), self.name)

    @cached_property
    def _described(self) -> Table:
        with bigquery_client.user_errors(self._where, ROLES):
            return bigquery_client.get_table(
                bigquery_client.client(self.project), str(self._table_name)
            )

    @property
    def _restriction(self) -> str:
        name = self.written.name_of(col.TIMESTAMP)
        column = name if name == col.TIMESTAMP else f"`{name}`"
        kind, unit = self._types.get(name, ""), self.written.timestamp_unit
        given = [self.row_restriction, self.period.restriction(kind, column, unit)]
        return " AND ".join(f"({one})" for one in given if one)

    def check(self, required: list[str]) -> None:
        table = self._described
        if table.table_type not in _READABLE:
            raise InputError(
                f"{self._where} is of type {table.table_type}: give a query that reads it, "
                f"--{self.name}='SELECT * FROM `{self._table_name}`'"
            )
        if not table.num_rows and table.streaming_buffer is None:
            raise InputError(f"{self._where} has no rows")
        self._check_schema(required)
        # A session is free, and fails if the restriction is wrong or a permission is missing.
        with bigquery_client.user_errors(self._where, ROLES):
            session = create_session(
                self._table_name, self._columns, self._restriction, 1, self.project
            )
        if not session.streams:
            raise InputError(f"{self._where} has no rows where {self._restriction or 'TRUE'}")

    def fingerprint(self) -> list[str]:
        return _version(self._described)

    def read(self) -> beam.PTransform:
        return ReadBigQuery(
            self._table_name, self._columns, self._restriction, self._where, self.project
        )


@dataclass(frozen=True)
class QuerySource(_BigQuerySource):
    """The result of a query. The text is run as the user wrote it."""

    @cached_property
    def _described(self) -> QueryJob:
        from google.cloud.bigquery import QueryJobConfig

        with bigquery_client.user_errors(self._where, ROLES):
            return bigquery_client.client(self.project).query(
                self.value,
                QueryJobConfig(dry_run=True, use_query_cache=False),
                retry=bigquery_client.rest_retry(),
                job_retry=None,
            )

    def check(self, required: list[str]) -> None:
        if (kind := self._described.statement_type) != "SELECT":
            raise InputError(f"{self._where} is {kind}; give one SELECT alone")
        self._check_schema(required)

    def fingerprint(self) -> list[str]:
        """Return the text, and the versions of the tables that the query reads.

        A table without readable metadata (a wildcard, or behind an authorised view) counts as
        changed at each call. A query that depends on the time or on chance is not noticed.
        """
        client = bigquery_client.client(self.project)
        versions = [_version_of(client, str(table)) for table in self._described.referenced_tables]
        return sum(versions, [self.value])

    def read(self) -> beam.PTransform:
        return ReadBigQuery(self.value, self._columns, "", self._where, self.project)


def _version_of(client: Client, table: str) -> list[str]:
    from google.api_core.exceptions import ClientError

    try:
        return _version(bigquery_client.get_table(client, table))
    except ClientError:
        return [table, datetime.datetime.now(datetime.UTC).isoformat()]


def _version(table: Table) -> list[str]:
    """Return strings that change with the rows of a table."""
    buffered: Any = table.streaming_buffer
    return [
        f"{table.project}.{table.dataset_id}.{table.table_id}",
        str(table.modified),
        str(table.num_rows),
        str(buffered.estimated_rows if buffered else 0),
    ]
