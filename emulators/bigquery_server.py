"""BigQuery in memory: bqemulator, and patches of it.

Run by .venv/emulators: see servers.py. Each patch removes one difference from the service.
"""

import asyncio
import os
import re
import tempfile
import threading
import urllib.parse
import urllib.request
from fnmatch import fnmatch
from functools import wraps
from importlib.util import find_spec
from json import load
from pathlib import Path
from typing import Any
from uuid import uuid4

from emulators import lifetime
from emulators.servers import PROJECT

_SELECT = re.compile(r"\s*(SELECT|WITH|\()", re.IGNORECASE)


def main() -> None:
    output = lifetime.claim_output()
    link_extensions()
    serialise_queries()
    keep_query_results()
    explain_in_dry_runs()
    load_and_extract_through_storage()
    touch_modified_tables()
    read_rows_from_offsets()
    split_small_tables()
    report_types_as_rest_does()
    asyncio.run(_serve(output))


async def _serve(output: int) -> None:
    from bqemulator.config import Settings
    from bqemulator.server import EmulatorServer

    settings = Settings(rest_port=0, grpc_port=0, default_project_id=PROJECT, log_level="warning")
    server = EmulatorServer(settings)
    await server.start()
    lifetime.announce(output, rest=server.rest_url, grpc=server.grpc_endpoint)
    await asyncio.Event().wait()


def link_extensions() -> None:
    """Put the installed extensions of DuckDB where it would download them to."""
    for name in ("avro", "spatial"):
        package = Path(find_spec(f"duckdb_extension_{name}").origin).parent
        for file in package.rglob("*.duckdb_extension"):
            version = file.parent.name
            folder = Path.home() / ".duckdb/extensions" / version / _platform()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file.name).symlink_to(file)


def _platform() -> str:
    import duckdb

    return duckdb.sql("PRAGMA platform").fetchone()[0]


def serialise_queries() -> None:
    """Run one query at a time: all threads share one DuckDB connection."""
    from bqemulator.storage.engine import DuckDBEngine

    lock = threading.RLock()

    def locked(method: Any) -> Any:
        @wraps(method)
        def call(*arguments: Any) -> Any:
            with lock:
                return method(*arguments)

        return call

    DuckDBEngine.execute = locked(DuckDBEngine.execute)
    DuckDBEngine.fetch_arrow = locked(DuckDBEngine.fetch_arrow)


def keep_query_results() -> None:
    """Write the result of a query into its anonymous destination table."""
    from bqemulator.api.routes import jobs
    from bqemulator.jobs import executor
    from bqemulator.storage.sql_identifiers import quoted_schema, quoted_table_ref

    execute = jobs._execute_query_or_failed_meta

    async def execute_and_keep(**job: Any) -> Any:
        meta = await execute(**job)
        if meta.error_result or not _SELECT.match(job["bq_sql"]):
            return meta
        engine, anonymous = job["ctx"].engine, meta.configuration["query"]["destinationTable"]
        names = anonymous["projectId"], anonymous["datasetId"]
        engine.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted_schema(*names)}")
        view = f"kept_{uuid4().hex}"
        engine.connection.register(view, executor.JOB_RESULTS[job["job_id"]])
        table = quoted_table_ref(*names, anonymous["tableId"])
        engine.execute(f"CREATE TABLE {table} AS SELECT * FROM {view}")
        engine.connection.unregister(view)
        return meta

    jobs._execute_query_or_failed_meta = execute_and_keep


def explain_in_dry_runs() -> None:
    """Name the tables that a query reads in a dry run, and run no statement of a script."""
    import sqlglot
    from bqemulator.api.routes import jobs

    build = jobs._build_dry_run_query_response

    async def build_and_explain(**job: Any) -> dict[str, Any]:
        statements = _parse(job["bq_sql"])
        if len(statements) > 1:
            response = await build(**{**job, "bq_sql": ""})
            response["statistics"]["query"]["statementType"] = "SCRIPT"
            return response
        response = await build(**job)
        response["statistics"]["query"]["referencedTables"] = [
            {
                "projectId": table.catalog or job["project_id"],
                "datasetId": table.db,
                "tableId": table.name,
            }
            for statement in statements
            for table in statement.find_all(sqlglot.exp.Table)
            if table.db
        ]
        return response

    jobs._build_dry_run_query_response = build_and_explain


def _parse(sql: str) -> list[Any]:
    """Return the statements of a script; none for a syntax error, which the emulator reports."""
    import sqlglot

    try:
        return [statement for statement in sqlglot.parse(sql, read="bigquery") if statement]
    except sqlglot.errors.ParseError:
        return []


def load_and_extract_through_storage() -> None:
    """Read and write the gs:// files of load and extract jobs in the storage emulator."""
    from bqemulator.api.routes import jobs

    load_files, extract_files = jobs.execute_load_job, jobs.execute_extract_job

    async def load_from_storage(project: str, job: str, config: Any, ctx: Any) -> Any:
        uris = config["load"].get("sourceUris", [])
        with tempfile.TemporaryDirectory() as folder:
            local = [
                f"file://{_download(bucket, name, folder)}"
                for uri in uris
                for bucket, name in _objects(uri)
            ]
            config_here = {**config, "load": {**config["load"], "sourceUris": local}}
            meta = await load_files(project, job, config_here, ctx)
        return meta.model_copy(update={"configuration": config})

    async def extract_to_storage(project: str, job: str, config: Any, ctx: Any) -> Any:
        extract = config["extract"]
        uri = (extract.get("destinationUris") or [extract["destinationUri"]])[0]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "extracted")
            extract_here = {**extract, "destinationUris": [f"file://{file}"]}
            meta = await extract_files(project, job, {**config, "extract": extract_here}, ctx)
            _upload(uri.replace("*", "000000000000"), file.read_bytes())
        counts = {"extract": {"destinationUriFileCounts": ["1"]}}
        return meta.model_copy(update={"configuration": config, "statistics": counts})

    jobs.execute_load_job, jobs.execute_extract_job = load_from_storage, extract_to_storage


def _objects(uri: str) -> list[tuple[str, str]]:
    """Return (bucket, name) of the objects of a URI, which may have a `*`."""
    bucket, _, pattern = uri.removeprefix("gs://").partition("/")
    if "*" not in pattern:
        return [(bucket, pattern)]
    prefix = urllib.parse.quote(pattern.split("*")[0], safe="")
    url = f"{_storage()}/storage/v1/b/{bucket}/o?prefix={prefix}"
    with urllib.request.urlopen(url) as response:
        names = [item["name"] for item in load(response).get("items", [])]
    return [(bucket, name) for name in sorted(names) if fnmatch(name, pattern)]


def _download(bucket: str, name: str, folder: str) -> Path:
    quoted = urllib.parse.quote(name, safe="")
    path = Path(folder, quoted)
    url = f"{_storage()}/storage/v1/b/{bucket}/o/{quoted}?alt=media"
    with urllib.request.urlopen(url) as response:
        path.write_bytes(response.read())
    return path


def _upload(uri: str, content: bytes) -> None:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    quoted = urllib.parse.quote(name, safe="")
    request = urllib.request.Request(
        f"{_storage()}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quoted}",
        data=content,
        headers={"Content-Type": "application/octet-stream"},
        method="POST",
    )
    urllib.request.urlopen(request).close()


def _storage() -> str:
    return os.environ["STORAGE_EMULATOR_HOST"]


def touch_modified_tables() -> None:
    """Change the modified time and etag of a table with its rows."""
    from bqemulator.catalog.memory_repository import MemoryCatalogRepository
    from bqemulator.domain.clock import SystemClock

    update, clock = MemoryCatalogRepository.update_table, SystemClock()

    def update_and_touch(self: MemoryCatalogRepository, table: Any) -> Any:
        changes = {"last_modified_time": clock.now(), "etag": uuid4().hex}
        return update(self, table.model_copy(update=changes))

    MemoryCatalogRepository.update_table = update_and_touch


def read_rows_from_offsets() -> None:
    """Begin a stream at the offset of ReadRows, where a client continues after an error."""
    from bqemulator.grpc_api.read_servicer import BigQueryReadHandler
    from bqemulator.streaming.read_session import ReadStream, get_session
    from google.cloud.bigquery_storage_v1.types import ReadRowsRequest

    read_rows = BigQueryReadHandler._handle_read_rows

    def read_rows_from_offset(self: BigQueryReadHandler, request_bytes: bytes, context: Any) -> Any:
        request = ReadRowsRequest.deserialize(request_bytes)
        session = get_session(request.read_stream.rpartition("/streams/")[0])
        streams = session.streams if session else []
        whole = next((s for s in streams if s.name == request.read_stream), None)
        if whole and request.offset:
            name = f"{whole.name}-{uuid4().hex}"
            rest = ReadStream(name, whole.start_row + request.offset, whole.end_row)
            streams.append(rest)
            request_bytes = ReadRowsRequest.serialize(ReadRowsRequest(read_stream=name))
        yield from read_rows(self, request_bytes, context)

    BigQueryReadHandler._handle_read_rows = read_rows_from_offset


def split_small_tables() -> None:
    """Give small tables several streams, as the service may."""
    from bqemulator.streaming import read_session

    read_session._SMALL_TABLE_BYTE_THRESHOLD = 10_000


def report_types_as_rest_does() -> None:
    """Return the types of columns with the names of legacy SQL, as REST does."""
    from bqemulator.api.routes import tables

    to_rest = tables._field_to_rest
    names = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}

    def to_legacy(field: Any) -> dict[str, Any]:
        rest = to_rest(field)
        return {**rest, "type": names.get(rest["type"], rest["type"])}

    tables._field_to_rest = to_legacy


if __name__ == "__main__":
    main()
