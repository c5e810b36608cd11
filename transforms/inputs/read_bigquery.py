"""BigQuery tables and queries as Arrow tables, through the Storage Read API.

BigQuery cuts a table into streams of Arrow record batches. One worker reads a stream at a time; no
row becomes a Python object. The read session starts when the pipeline runs, so that a template
reads the table of its launch time. A session expires after 6 hours; reading must end before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from transforms.errors import InputError
from transforms.inputs.input_format import POSITION
from transforms.inputs.read_files import BATCH_BYTES, BATCH_ROWS
from transforms.storage import bigquery_client
from transforms.storage.bigquery_client import TableName

MAX_STREAMS = 1000  # the limit of BigQuery; it gives small tables fewer
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
    """Create a read session of at most `streams` streams.

    Only `columns` are sent (and billed), and only rows that match `restriction` ("": all rows).
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
    """Reads a table, or the result of a query, as Arrow tables of about BATCH_ROWS rows.

    Each table has a column POSITION [int64], like those of ReadTables. A retried bundle gives rows
    the same positions, but they are no order of the rows: BigQuery tables have none. A query runs
    in the pipeline; its result is read from the anonymous table that BigQuery keeps for a day.
    """

    of: TableName | str  # a table, or a query in GoogleSQL
    columns: tuple[str, ...]
    restriction: str
    where: str  # how an error names the input
    project: str | None = None

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[pa.Table]:
        return (
            begin
            | "Of" >> beam.Create([self.of])
            | "Streams" >> beam.FlatMap(self._streams)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(ReadStream(self.where)).with_output_types(pa.Table)
        )

    def _streams(self, of: TableName | str) -> Iterator[Stream]:
        with bigquery_client.user_errors(self.where, ROLES):
            table = _run(of, self.project) if isinstance(of, str) else of
            session = create_session(
                table, self.columns, self.restriction, MAX_STREAMS, self.project
            )
        if not session.streams:
            raise InputError(f"{self.where} has no rows")
        for number, stream in enumerate(session.streams):
            yield number, stream.name, session.arrow_schema.serialized_schema


def _run(query: str, project: str | None) -> TableName:
    """Run a query and return the table of its result."""
    from google.cloud.bigquery.retry import DEFAULT_JOB_RETRY

    retry = bigquery_client.rest_retry()
    again = DEFAULT_JOB_RETRY.with_timeout(bigquery_client.RETRY_SECONDS)
    job = bigquery_client.client(project).query(query, retry=retry, job_retry=again)
    job.result(retry=retry, job_retry=again, max_results=0)
    table = job.destination
    return TableName(table.project, table.dataset_id, table.table_id)


class ReadStream(beam.DoFn):
    """Stream -> its rows.

    After a broken connection the client continues at its offset: each row comes once. A retried
    bundle reads its streams from the start; they hold the same rows in the same order.
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
        Metrics.counter(ReadStream, "streams_read").inc()

    def _batches(self, name: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with bigquery_client.user_errors(self._where, ROLES):
            for message in self._client.read_rows(name, retry=bigquery_client.read_retry()):
                serialised = message.arrow_record_batch.serialized_record_batch
                yield pa.ipc.read_record_batch(pa.py_buffer(serialised), schema)

    def teardown(self) -> None:
        self._client.transport.close()


def gather(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Combine batches into tables of at least BATCH_ROWS rows or BATCH_BYTES bytes."""
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
