"""BigQuery tables and queries as batches of rows, through the Storage Read API.

The service cuts a table into streams of Arrow record batches; each is read by one worker at a
time, and no row becomes a Python object. The read session is created when the pipeline runs: a
template that is launched later reads the table of then. A session ends 6 hours after that; what
is not read by then can't be.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from transforms.errors import InputError
from transforms.inputs.read_files import BATCH_BYTES, BATCH_ROWS, POSITION
from transforms.storage import bigquery_client
from transforms.storage.bigquery_client import TableName

MAX_STREAMS = 1000  # as many as the service gives; it gives small tables fewer
ROLES = (
    "roles/bigquery.dataViewer on the table, and roles/bigquery.jobUser and "
    "roles/bigquery.readSessionUser in the project"
)
_POSITIONS_PER_STREAM = 1 << 32

Stream = tuple[int, str, bytes]  # number, name, serialised Arrow schema


def create_session(
    table: TableName,
    columns: tuple[str, ...],
    restriction: str,
    streams: int,
    project: str | None = None,
) -> Any:
    """Create a read session.

    Parameters
    ----------
    columns
        The columns that are read, so that no other is sent (or paid for).
    restriction
        Which rows, in BigQuery's language of row restrictions; "" for all.
    streams
        How many the service may cut the table into.
    project
        As in `bigquery_client.client`.
    """
    from google.cloud.bigquery_storage_v1 import types

    options = types.ReadSession.TableReadOptions(
        selected_fields=columns, row_restriction=restriction
    )
    with bigquery_client.read_client() as client:
        return client.create_read_session(
            parent=f"projects/{bigquery_client.client(project).project}",
            read_session=types.ReadSession(
                table=table.path, data_format=types.DataFormat.ARROW, read_options=options
            ),
            max_stream_count=streams,
            retry=bigquery_client.read_retry(),
        )


@dataclass(eq=False)
class ReadBigQuery(beam.PTransform):
    """Reads a table, or what a query returns, as Arrow tables of about BATCH_ROWS rows.

    Each table has a column POSITION [int64] like those of ReadTables. It is the same when a bundle
    is tried again, but says nothing about the order of rows, which tables don't have.

    Attributes
    ----------
    of
        A table, or a query in GoogleSQL. A query runs in the pipeline, and what it returns is read
        from the anonymous table that BigQuery keeps for a day.
    columns, restriction
        As in `create_session`.
    where
        What an error calls the input.
    project
        As in `bigquery_client.client`.
    """

    of: TableName | str
    columns: tuple[str, ...]
    restriction: str
    where: str
    project: str | None = None

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[pa.Table]:
        return (
            begin
            | "Of" >> beam.Create([self.of])
            | "Streams"
            >> beam.FlatMap(_streams, self.columns, self.restriction, self.where, self.project)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(ReadStream(self.where)).with_output_types(pa.Table)
        )


def _streams(
    of: TableName | str,
    columns: tuple[str, ...],
    restriction: str,
    where: str,
    project: str | None = None,
) -> Iterator[Stream]:
    with bigquery_client.user_errors(where, ROLES):
        table = _run(of, project) if isinstance(of, str) else of
        session = create_session(table, columns, restriction, MAX_STREAMS, project)
    if not session.streams:
        raise InputError(f"{where} has no rows")
    for number, stream in enumerate(session.streams):
        yield number, stream.name, session.arrow_schema.serialized_schema


def _run(query: str, project: str | None) -> TableName:
    """Run a query and return the table of what it returns."""
    from google.cloud.bigquery.retry import DEFAULT_JOB_RETRY

    retry = bigquery_client.rest_retry()
    again = DEFAULT_JOB_RETRY.with_timeout(bigquery_client.RETRY_SECONDS)
    job = bigquery_client.client(project).query(query, retry=retry, job_retry=again)
    job.result(retry=retry, job_retry=again, max_results=0)
    table = job.destination
    return TableName(table.project, table.dataset_id, table.table_id)


class ReadStream(beam.DoFn):
    """Stream -> its rows.

    Where the connection breaks, the client goes on at the offset it had come to: each row comes
    once. A bundle that is tried again reads its streams from their beginning; they hold the same
    rows in the same order.
    """

    def __init__(self, where: str) -> None:
        self._where = where

    def setup(self) -> None:
        self._client = bigquery_client.read_client()

    def process(self, stream: Stream) -> Iterator[pa.Table]:
        number, name, serialised = stream
        schema = pa.ipc.read_schema(pa.py_buffer(serialised))
        position = number * _POSITIONS_PER_STREAM
        for table in gather(self._batches(name, schema), schema):
            positions = np.arange(position, position + table.num_rows)
            yield table.append_column(POSITION, pa.array(positions))
            position += table.num_rows
        Metrics.counter("bigquery", "streams_read").inc()

    def _batches(self, name: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with bigquery_client.user_errors(self._where, ROLES):
            for message in self._client.read_rows(name, retry=bigquery_client.read_retry()):
                serialised = message.arrow_record_batch.serialized_record_batch
                yield pa.ipc.read_record_batch(pa.py_buffer(serialised), schema)

    def teardown(self) -> None:
        self._client.transport.close()


def gather(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Put batches together to tables of at least BATCH_ROWS rows or BATCH_BYTES bytes."""
    gathered: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        gathered.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= BATCH_ROWS or size >= BATCH_BYTES:
            yield pa.Table.from_batches(gathered, schema)
            gathered, rows, size = [], 0, 0
    if rows:
        yield pa.Table.from_batches(gathered, schema)
