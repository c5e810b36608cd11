"""The Parquet files of a complete stage as a BigQuery table.

Its rows are loaded into a table of their own, `<name>_<version>`, where the version is a digest of
the files. When their number is right, one copy job puts them in the place of `<name>`: BigQuery
does a copy whole or not at all, so that a reader sees the old rows or the new ones. The versions
stay, and a rollback is a copy of an older one.

It is a copy and no view: a view has no rows for exports, previews and the Storage Read API.

Everything can be done again at any moment, by several workers too, and ends with the same tables.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from transforms.errors import InputError
from transforms.storage import bigquery_client, cloud_storage, files
from transforms.storage.bigquery_client import TableName
from transforms.storage.manifest import read_manifest

if TYPE_CHECKING:
    from google.cloud.bigquery import Client, LoadJob, SchemaField, Table

log = logging.getLogger("interest-explorer")

ROLES = "roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser in the project"
PIPELINE, VERSION = "interest-explorer", "version"  # labels of our tables
_JOB_PREFIX = "interest-explorer-"
_FILES_PER_JOB = 10_000  # that a load job takes
_TYPES = {pa.int32(): "INTEGER", pa.float32(): "FLOAT", pa.string(): "STRING"}


def bigquery_schema(schema: pa.Schema) -> list[SchemaField]:
    """Return an Arrow schema as BigQuery has it, lists as repeated columns."""
    from google.cloud.bigquery import SchemaField

    columns = []
    for field in schema:
        repeated = pa.types.is_list(field.type)
        kind = _TYPES[field.type.value_type if repeated else field.type]
        columns.append(SchemaField(field.name, kind, "REPEATED" if repeated else "NULLABLE"))
    return columns


@dataclass(frozen=True)
class Version:
    """What a complete stage holds.

    Attributes
    ----------
    digest
        Of the files: the same content has the same.
    paths
        The Parquet files.
    rows
        Rows in them.
    """

    digest: str
    paths: tuple[str, ...]
    rows: int

    @staticmethod
    def of(folder: str) -> Version:
        """Read the manifest of a complete stage; ValueError where it is not."""
        manifest = read_manifest(folder)
        if manifest is None:
            raise ValueError(f"{folder} is not complete")
        content = json.dumps(manifest["files"], sort_keys=True)
        return Version(
            hashlib.sha256(content.encode()).hexdigest()[:12],
            tuple(files.join(folder, file["path"]) for file in manifest["files"]),
            manifest["rows"]["written"],
        )

    def table(self, target: TableName) -> TableName:
        """Return the name of the table that holds this version."""
        return TableName(target.project, target.dataset, f"{target.table}_{self.digest}")


def check_target(
    target: TableName, workspace: str, pipeline: str, project: str | None = None
) -> None:
    """Check before any work that a stage can be loaded.

    Parameters
    ----------
    project
        As in `bigquery_client.client`.

    Raises
    ------
    InputError
        If there is no such dataset, it is too far from the workspace, or the table is there and
        not ours.
    """
    client, retry = bigquery_client.client(project), bigquery_client.rest_retry()
    with _user_errors(target):
        dataset = client.get_dataset(f"{target.project}.{target.dataset}", retry=retry)
        table = _find(client, target)
        if table is not None and not _is_ours(client, target, table, pipeline):
            raise InputError(
                f"--output_table={target} exists and was not written by this pipeline; give "
                "another name, or delete it"
            )
    if not files.is_local(workspace):
        _check_location(target, dataset.location, workspace)


def _check_location(target: TableName, dataset: str, workspace: str) -> None:
    from google.api_core.exceptions import Forbidden

    try:
        bucket = cloud_storage.bucket_of(workspace)
    except Forbidden:  # one may use a bucket and not look at it
        return
    if not can_load(dataset, bucket.location):
        raise InputError(
            f"--output_table={target}: its dataset is in {dataset}, which can't load from the "
            f"bucket of --workspace={workspace} in {bucket.location}; bring both to one place"
        )


def can_load(dataset: str, bucket: str) -> bool:
    """Say whether a dataset at a location can load from a bucket at another.

    Of a bucket in several regions, whose name has no hyphen, this is left to BigQuery.
    """
    dataset, bucket = dataset.upper(), bucket.upper()
    near = dataset in ("US", bucket) or (dataset == "EU" and bucket.startswith("EUROPE-"))
    return near or "-" not in bucket


def _is_ours(client: Client, target: TableName, table: Table, pipeline: str) -> bool:
    """Say whether a table was written by a pipeline; a rollback may have taken its labels."""
    if PIPELINE in table.labels:
        return table.labels[PIPELINE] == pipeline
    beside = client.list_tables(
        f"{target.project}.{target.dataset}", retry=bigquery_client.rest_retry()
    )
    return any(
        client.get_table(one, retry=bigquery_client.rest_retry()).labels.get(PIPELINE) == pipeline
        for one in beside
        if re.fullmatch(re.escape(target.table) + "_[0-9a-f]{12}", one.table_id)
    )


@dataclass(eq=False)
class LoadTable(beam.PTransform):
    """Loads a stage once the single element that it takes says that the stage is complete.

    Attributes
    ----------
    written_by
        The pipeline that wrote the stage.
    folder
        Of the stage.
    schema
        Of its Parquet files.
    target
        The table.
    project
        As in `bigquery_client.client`.
    """

    written_by: str
    folder: str
    schema: pa.Schema
    target: TableName
    project: str | None = None

    def expand(self, done: beam.PCollection[Any]) -> beam.PCollection[int]:
        return done | "Load" >> beam.Map(lambda _: self._load())

    def is_done(self) -> bool:
        """Say whether the table holds what the complete stage does."""
        with _user_errors(self.target):
            table = _find(bigquery_client.client(self.project), self.target)
            return _holds(table, Version.of(self.folder))

    def _load(self) -> int:
        version = Version.of(self.folder)
        with _user_errors(self.target):
            self._put_in_place(bigquery_client.client(self.project), version)
        Metrics.counter("load_bigquery", "rows_loaded").inc(version.rows)
        return version.rows

    def _put_in_place(self, client: Client, version: Version) -> None:
        from google.cloud.bigquery import CopyJobConfig

        retry, of_version = bigquery_client.rest_retry(), version.table(self.target)
        if not _holds(_find(client, of_version), version):
            for job in self._load_jobs(client, version):
                job.result(retry=retry)
            _check_rows(client, of_version, version)
            self._label(client, of_version, version)
        before = _find(client, self.target)
        if not _holds(before, version):
            config = CopyJobConfig(write_disposition="WRITE_TRUNCATE")
            client.copy_table(
                str(of_version),
                str(self.target),
                job_id_prefix=_JOB_PREFIX,
                job_config=config,
                retry=retry,
            ).result(retry=retry)
            self._label(client, self.target, version)
        log.info("%s: %s rows are in %s", self.written_by, f"{version.rows:,}", self.target)
        older = before.labels.get(VERSION) if before else None
        if older not in (None, version.digest):
            log.info(
                "%s: to roll back: bq cp --ignore_gates %s_%s %s",
                self.written_by,
                self._bq(),
                older,
                self._bq(),
            )

    def _bq(self) -> str:
        return f"{self.target.project}:{self.target.dataset}.{self.target.table}"

    def _load_jobs(self, client: Client, version: Version) -> Iterator[LoadJob]:
        """Start the jobs that load a version, each when the one before it has ended."""
        from google.cloud.bigquery import LoadJobConfig, ParquetOptions

        parquet = ParquetOptions()
        parquet.enable_list_inference = True  # lists as plain repeated columns
        config = LoadJobConfig(
            source_format="PARQUET",
            parquet_options=parquet,
            schema=bigquery_schema(self.schema),
            write_disposition="WRITE_TRUNCATE",
        )
        table = str(version.table(self.target))
        if files.is_local(self.folder):
            with tempfile.TemporaryFile() as file:
                _concatenate(version.paths, self.schema, file)
                yield client.load_table_from_file(
                    file, table, rewind=True, job_id_prefix=_JOB_PREFIX, job_config=config
                )
            return
        for start in range(0, len(version.paths), _FILES_PER_JOB):
            yield client.load_table_from_uri(
                list(version.paths[start : start + _FILES_PER_JOB]),
                table,
                job_id_prefix=_JOB_PREFIX,
                job_config=config,
                retry=bigquery_client.rest_retry(),
            )
            config.write_disposition = "WRITE_APPEND"

    def _label(self, client: Client, name: TableName, version: Version) -> None:
        """Say what a table holds, once it does."""
        retry = bigquery_client.rest_retry()
        table = client.get_table(str(name), retry=retry)
        table.labels = {PIPELINE: self.written_by, VERSION: version.digest}
        table.description = f"{self.folder} by interest-explorer's pipeline {self.written_by}"
        client.update_table(table, ["labels", "description"], retry=retry)


def _check_rows(client: Client, name: TableName, version: Version) -> None:
    """Raise ValueError if the rows that were loaded are not all there."""
    rows = client.get_table(str(name), retry=bigquery_client.rest_retry()).num_rows
    if rows != version.rows:
        raise ValueError(
            f"{name} has {rows:,} rows after {version.rows:,} were loaded; start the same command "
            "again"
        )


def _user_errors(target: TableName) -> Any:
    return bigquery_client.user_errors(f"--output_table={target}", ROLES)


def _find(client: Client, name: TableName) -> Table | None:
    from google.api_core.exceptions import NotFound

    try:
        return client.get_table(str(name), retry=bigquery_client.rest_retry())
    except NotFound:
        return None


def _holds(table: Table | None, version: Version) -> bool:
    """Say whether a table is labelled as a version, which is done last."""
    return table is not None and table.labels.get(VERSION) == version.digest


def _concatenate(paths: tuple[str, ...], schema: pa.Schema, file: IO[bytes]) -> None:
    """Write the rows of local Parquet files into one, so that one job loads them."""
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for path in paths:
            writer.write_table(pq.read_table(path).cast(schema))
