"""Copies Arrow tables to BigQuery and back."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from google.cloud import bigquery

_TYPES = {
    pa.string(): "STRING",
    pa.bool_(): "BOOL",
    pa.int32(): "INT64",
    pa.int64(): "INT64",
    pa.float32(): "FLOAT64",
    pa.float64(): "FLOAT64",
    pa.timestamp("ms", tz="UTC"): "TIMESTAMP",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP",
}


def load(name: str, table: pa.Table, partitioned_by: str | None = None) -> None:
    """Replace the BigQuery table `project.dataset.table` by a table.

    It is partitioned by the day of a timestamp column, if one is given.
    """
    from google.cloud import bigquery

    file = io.BytesIO()
    pq.write_table(table, file)
    config = bigquery.LoadJobConfig(
        source_format="PARQUET",
        schema=[_field(field) for field in table.schema],
        write_disposition="WRITE_TRUNCATE",
    )
    if partitioned_by:
        config.time_partitioning = bigquery.TimePartitioning(field=partitioned_by)
    job = bigquery.Client().load_table_from_file(file, name, rewind=True, job_config=config)
    job.result(timeout=60)


def _field(field: pa.Field) -> bigquery.SchemaField:
    from google.cloud import bigquery

    repeated = pa.types.is_list(field.type)
    kind = _TYPES[field.type.value_type if repeated else field.type]
    return bigquery.SchemaField(field.name, kind, "REPEATED" if repeated else "NULLABLE")


def rows(name: str) -> pa.Table:
    """Return the rows of a BigQuery table, unordered."""
    from google.cloud import bigquery

    return bigquery.Client().list_rows(name).to_arrow(create_bqstorage_client=False)
