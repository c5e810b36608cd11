"""Loads the Parquet files of a complete stage into a BigQuery table.

The rows are loaded into a table `<name>_<version>`, where the version is a digest of the files.
After a check of their number, one copy job puts them in place of `<name>`: a copy is atomic, so
that readers see the old rows or the new ones. Older versions stay; a rollback copies one back.

A single load job with WRITE_TRUNCATE is atomic too, but takes at most 10,000 files, replaces the
table before its rows are counted, and leaves a rollback of 7 days only. A view in place of the copy
has no rows for exports, previews and the Storage Read API.

Every step can be repeated at any time, by several workers too, and ends with the same tables.
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
from transforms.storage.bigquery_client import TableName, get_table
from transforms.storage.manifest import read_manifest

if TYPE_CHECKING:
    from google.cloud.bigquery import Client, LoadJob, SchemaField, Table

log = logging.getLogger("interest-explorer")

ROLES = "roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser in the project"
PIPELINE, VERSION = "interest-explorer", "version"  # labels of our tables
_JOB_PREFIX = "interest-explorer-"
_FILES_PER_JOB = 10_000  # the limit of a load job
_TYPES = {pa.int32(): "INTEGER", pa.float32(): "FLOAT", pa.string(): "STRING"}


def bigquery_schema(schema: pa.Schema) -> list[SchemaField]:
    """Return the BigQuery schema of an Arrow schema, with lists as repeated columns."""
    from google.cloud.bigquery import SchemaField

    columns = []
    for field in schema:
        repeated = pa.types.is_list(field.type)
        kind = _TYPES[field.type.value_type if repeated else field.type]
        columns.append(SchemaField(field.name, kind, "REPEATED" if repeated else "NULLABLE"))
    return columns


@dataclass(frozen=True)
class Version:
    """The content of a complete stage."""

    digest: str  # of the files; equal content has equal digests
    paths: tuple[str, ...]  # of the Parquet files
    rows: int

    @staticmethod
    def of(folder: str) -> Version:
        """Read the manifest of a stage; ValueError if the stage is not complete."""
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
        """Return the name of the table with this version."""
        return TableName(target.project, target.dataset, f"{target.table}_{self.digest}")


def check_target(
    target: TableName, workspace: str, pipeline: str, project: str | None = None
) -> None:
    """Raise InputError, before any work, if a stage cannot be loaded.

    That is if the dataset is missing or too far from the workspace, or if the table exists and was
    not written by the pipeline.
    """
    client = bigquery_client.client(project)
    with _user_errors(target):
        dataset = client.get_dataset(
            f"{target.project}.{target.dataset}", retry=bigquery_client.rest_retry()
        )
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
    except Forbidden:  # an account may read objects but not the bucket's metadata
        return
    if not can_load(dataset, bucket.location):
        raise InputError(
            f"--output_table={target}: its dataset is in {dataset}, which can't load from the "
            f"bucket of --workspace={workspace} in {bucket.location}; bring both to one place"
        )


def can_load(dataset: str, bucket: str) -> bool:
    """Return whether a dataset at a location can load from a bucket at another.

    A bucket in several regions, whose location has no hyphen, is left to BigQuery.
    """
    dataset, bucket = dataset.upper(), bucket.upper()
    near = dataset in ("US", bucket) or (dataset == "EU" and bucket.startswith("EUROPE-"))
    return near or "-" not in bucket


def _is_ours(client: Client, target: TableName, table: Table, pipeline: str) -> bool:
    """Return whether a pipeline wrote a table; a rollback may have removed its labels."""
    if PIPELINE in table.labels:
        return table.labels[PIPELINE] == pipeline
    found = client.list_tables(
        f"{target.project}.{target.dataset}", retry=bigquery_client.rest_retry()
    )
    return any(
        get_table(client, str(one.reference)).labels.get(PIPELINE) == pipeline
        for one in found
        if re.fullmatch(re.escape(target.table) + "_[0-9a-f]{12}", one.table_id)
    )


@dataclass(eq=False)
class LoadTable(beam.PTransform):
    """Loads a stage, when the single element of the input says that the stage is complete."""

    written_by: str  # the pipeline that wrote the stage
    folder: str  # of the stage
    schema: pa.Schema  # of its Parquet files
    target: TableName
    project: str | None = None  # as in bigquery_client.client

    def expand(self, done: beam.PCollection[Any]) -> beam.PCollection[int]:
        return done | "Load" >> beam.Map(lambda _: self._load())

    def is_done(self) -> bool:
        """Return whether the table holds the version of the complete stage."""
        with _user_errors(self.target):
            table = _find(bigquery_client.client(self.project), self.target)
            return _holds(table, Version.of(self.folder))

    def _load(self) -> int:
        version = Version.of(self.folder)
        with _user_errors(self.target):
            self._put_in_place(bigquery_client.client(self.project), version)
        Metrics.counter(LoadTable, "rows_loaded").inc(version.rows)
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
            client.copy_table(
                str(of_version),
                str(self.target),
                job_id_prefix=_JOB_PREFIX,
                job_config=CopyJobConfig(write_disposition="WRITE_TRUNCATE"),
                retry=retry,
            ).result(retry=retry)
            self._label(client, self.target, version)
        log.info("%s: %s rows are in %s", self.written_by, f"{version.rows:,}", self.target)
        older = before.labels.get(VERSION) if before else None
        if older not in (None, version.digest):
            name = f"{self.target.project}:{self.target.dataset}.{self.target.table}"
            log.info("%s: to roll back: bq cp --force %s_%s %s", self.written_by, name, older, name)

    def _load_jobs(self, client: Client, version: Version) -> Iterator[LoadJob]:
        """Start the jobs that load a version, each after the end of the one before."""
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
        """Label a table with its version, after it has the rows."""
        table = get_table(client, str(name))
        table.labels = {PIPELINE: self.written_by, VERSION: version.digest}
        table.description = f"{self.folder} by interest-explorer's pipeline {self.written_by}"
        client.update_table(table, ["labels", "description"], retry=bigquery_client.rest_retry())


def _check_rows(client: Client, name: TableName, version: Version) -> None:
    """Raise ValueError if rows are missing after a load."""
    rows = get_table(client, str(name)).num_rows
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
        return get_table(client, str(name))
    except NotFound:
        return None


def _holds(table: Table | None, version: Version) -> bool:
    """Return whether a table has the label of a version, which is written last."""
    return table is not None and table.labels.get(VERSION) == version.digest


def _concatenate(paths: tuple[str, ...], schema: pa.Schema, file: IO[bytes]) -> None:
    """Write the rows of local Parquet files to one file, for a single load job."""
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for path in paths:
            writer.write_table(pq.read_table(path).cast(schema))
