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
from transforms.inputs.read_bigquery import ROLES, ReadBigQuery, create_session
from transforms.inputs.read_files import (
    ReadTables,
    check_columns,
    find_files,
    has_column,
    require_columns,
)
from transforms.storage import bigquery_client, files
from transforms.storage.bigquery_client import TableName

if TYPE_CHECKING:
    from google.cloud.bigquery import Client, QueryJob, SchemaField, Table

TABLE_PREFIX = "bq://"
_QUERY = re.compile(r"\s*(SELECT|WITH)\s", re.IGNORECASE)

_IDS = ("STRING", "INTEGER", "BYTES", "FLOAT")
_NUMBERS = ("FLOAT", "INTEGER", "NUMERIC", "BIGNUMERIC", "STRING")
# The columns that are read of each input, and the BigQuery types they may have: they are also all
# that the dead letter shows of a row. Files are read whole; what is wrong with a type of theirs is
# found when they are.
COLUMNS = {
    "interactions": {
        col.USER_ID: _IDS,
        col.ITEM_ID: _IDS,
        col.TIMESTAMP: ("TIMESTAMP", "DATETIME", "DATE", *_NUMBERS),
        col.RATING: _NUMBERS,
    },
    "items": {
        col.ITEM_ID: _IDS,
        col.TITLE: ("STRING",),
        col.KEYWORDS: ("STRING", "REPEATED STRING"),
        col.TEXT: ("STRING",),
        col.EMBEDDING: ("REPEATED FLOAT", "REPEATED INTEGER"),
        col.ELIGIBLE: ("BOOLEAN", "INTEGER", "STRING"),
    },
}
_LEGACY = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
_READABLE = ("TABLE", "SNAPSHOT")


@dataclass(frozen=True)
class Period:
    """Times in microseconds since 1970: since, inclusive, until, exclusive; None: no limit."""

    since: int | None = None
    until: int | None = None

    def __bool__(self) -> bool:
        """Say whether it leaves anything out."""
        return self != Period()

    def restriction(self, kind: str) -> str:
        """Return the row restriction of a column `timestamp` of a type; "" where there is none.

        Rows without a time are in: it takes the dead letter to tell of them.
        """
        literal = {"TIMESTAMP": _timestamp, "INTEGER": _seconds}.get(kind)
        if literal is None:
            return ""
        limits = [
            f"{col.TIMESTAMP} {sign} {literal(time)}"
            for sign, time in ((">=", self.since), ("<", self.until))
            if time is not None
        ]
        return f"{col.TIMESTAMP} IS NULL OR ({' AND '.join(limits)})" if limits else ""


def _timestamp(microseconds: int) -> str:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    time = epoch + datetime.timedelta(microseconds=microseconds)
    return f'TIMESTAMP "{time.isoformat(sep=" ")}"'


def _seconds(microseconds: int) -> str:
    return str(-(-microseconds // 1_000_000))  # up: no whole second lies between


@dataclass(frozen=True)
class Source(ABC):
    """An input, as a flag names it.

    Attributes
    ----------
    value, name
        Value and name of the flag.
    period
        Which rows are input. A source may read others too: ReadInteractions leaves them out.
    project
        Where BigQuery's work is done and billed; None: in the project of the environment.
    """

    value: str
    name: str
    period: Period = Period()
    project: str | None = None

    ordered: ClassVar[bool] = False  # whether POSITION tells which of two rows was first

    @abstractmethod
    def check(self, required: list[str]) -> None:
        """Raise InputError for what can't be read or lacks a required column, before any work."""

    @abstractmethod
    def has_column(self, column: str) -> bool:
        """Say whether there is an optional column."""

    @abstractmethod
    def fingerprint(self) -> list[str]:
        """Return what changes with the content; period and restriction are flags of the plan."""

    @abstractmethod
    def read(self) -> beam.PTransform:
        """Return a transform that reads tables with a column POSITION."""


def find_source(
    value: str,
    name: str,
    period: Period = Period(),
    row_restriction: str | None = None,
    project: str | None = None,
) -> Source:
    """Return the source that a flag names.

    Parameters
    ----------
    value
        A file, folder or pattern; bq://project.dataset.table; or a query in GoogleSQL.
    name
        "interactions" or "items".
    row_restriction
        Which rows of a BigQuery table, in its language of row restrictions.
    project
        As in Source.

    Raises
    ------
    InputError
        If it can't be any, or no file is there.
    """
    if value.startswith(TABLE_PREFIX):
        return TableSource(value, name, period, project, row_restriction or "")
    if row_restriction is not None:
        raise InputError(
            f"--row_restriction is for BigQuery tables, and --{name}={_short(value)} is none; "
            "in a query, WHERE does the same"
        )
    if _QUERY.match(value):
        return QuerySource(value, name, period, project)
    return FileSource(value, name, period, project)


def _short(value: str) -> str:
    text = " ".join(value.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class FileSource(Source):
    """Parquet and CSV files."""

    ordered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raise InputError where no file is."""
        _ = self._paths

    @cached_property
    def _paths(self) -> list[str]:
        return find_files(self.value, self.name)

    def check(self, required: list[str]) -> None:
        check_columns(self._paths, self.name, required)

    def has_column(self, column: str) -> bool:
        return has_column(self._paths, column)

    def fingerprint(self) -> list[str]:
        return files.fingerprints(self._paths)

    def read(self) -> beam.PTransform:
        return ReadTables(tuple(self._paths))


@dataclass(frozen=True)
class _BigQuerySource(Source):
    """What tables and queries have in common: a schema, of which some columns are read."""

    @property
    @abstractmethod
    def _schema(self) -> list[SchemaField]: ...

    @property
    def _where(self) -> str:
        return f"--{self.name}: {_short(self.value)}"

    @cached_property
    def _types(self) -> dict[str, str]:
        """The BigQuery type of each column, as the REST API calls it."""
        return {
            field.name: ("REPEATED " if field.mode == "REPEATED" else "")
            + _LEGACY.get(field.field_type, field.field_type)
            for field in self._schema
        }

    def has_column(self, column: str) -> bool:
        return column in self._types

    @property
    def _columns(self) -> tuple[str, ...]:
        return tuple(column for column in COLUMNS[self.name] if column in self._types)

    def _check_schema(self, required: list[str]) -> None:
        require_columns(self._where, list(self._types), required)
        for column in self._columns:
            fitting = COLUMNS[self.name][column]
            if self._types[column] not in fitting:
                raise InputError(
                    f"{self._where}: the column {column!r} is {self._types[column]}, not "
                    f"{' or '.join(fitting)}; a query can CAST it"
                )


@dataclass(frozen=True)
class TableSource(_BigQuerySource):
    """A BigQuery table."""

    row_restriction: str = ""

    def __post_init__(self) -> None:
        """Raise InputError for what is no name of a table."""
        _ = self._table_name

    @property
    def _table_name(self) -> TableName:
        return TableName.parse(self.value.removeprefix(TABLE_PREFIX), self.name)

    @cached_property
    def _table(self) -> Table:
        with bigquery_client.user_errors(self._where, ROLES):
            client = bigquery_client.client(self.project)
            return client.get_table(str(self._table_name), retry=bigquery_client.rest_retry())

    @property
    def _schema(self) -> list[SchemaField]:
        return self._table.schema

    @property
    def _restriction(self) -> str:
        given = [self.row_restriction, self.period.restriction(self._types.get(col.TIMESTAMP, ""))]
        return " AND ".join(f"({one})" for one in given if one)

    def check(self, required: list[str]) -> None:
        if self._table.table_type not in _READABLE:
            raise InputError(
                f"{self._where} is of type {self._table.table_type}: give a query that reads it, "
                f"--{self.name}='SELECT * FROM `{self._table_name}`'"
            )
        if not self._table.num_rows and self._table.streaming_buffer is None:
            raise InputError(f"{self._where} has no rows")
        self._check_schema(required)
        # A session costs nothing, and finds what is wrong with the restriction or a permission.
        with bigquery_client.user_errors(self._where, ROLES):
            session = create_session(
                self._table_name, self._columns, self._restriction, 1, self.project
            )
        if not session.streams:
            raise InputError(f"{self._where} has no rows where {self._restriction or 'TRUE'}")

    def fingerprint(self) -> list[str]:
        return _version(self._table)

    def read(self) -> beam.PTransform:
        return ReadBigQuery(
            self._table_name, self._columns, self._restriction, self._where, self.project
        )


@dataclass(frozen=True)
class QuerySource(_BigQuerySource):
    """What a query returns. Its text is the user's: nothing is put into it."""

    @cached_property
    def _job(self) -> QueryJob:
        from google.cloud.bigquery import QueryJobConfig

        with bigquery_client.user_errors(self._where, ROLES):
            return bigquery_client.client(self.project).query(
                self.value,
                QueryJobConfig(dry_run=True, use_query_cache=False),
                retry=bigquery_client.rest_retry(),
                job_retry=None,
            )

    @property
    def _schema(self) -> list[SchemaField]:
        return self._job.schema or []

    def check(self, required: list[str]) -> None:
        if self._job.statement_type != "SELECT":
            raise InputError(f"{self._where} is {self._job.statement_type}; give one SELECT alone")
        self._check_schema(required)

    def fingerprint(self) -> list[str]:
        """Return the text and the versions of the tables it reads.

        A table that can't be looked up (a wildcard, one behind an authorised view) counts as
        changed each time. What depends on the time or on chance is not seen.
        """
        versions, client = [self.value], bigquery_client.client(self.project)
        for table in self._job.referenced_tables:
            versions += _version_of(client, str(table))
        return versions

    def read(self) -> beam.PTransform:
        return ReadBigQuery(self.value, self._columns, "", self._where, self.project)


def _version_of(client: Client, table: str) -> list[str]:
    from google.api_core.exceptions import ClientError

    try:
        return _version(client.get_table(table, retry=bigquery_client.rest_retry()))
    except ClientError:
        return [table, datetime.datetime.now(datetime.UTC).isoformat()]


def _version(table: Table) -> list[str]:
    """Return what changes with the rows of a table."""
    buffered: Any = table.streaming_buffer
    return [
        f"{table.project}.{table.dataset_id}.{table.table_id}",
        str(table.modified),
        str(table.num_rows),
        str(buffered.estimated_rows if buffered else 0),
    ]
