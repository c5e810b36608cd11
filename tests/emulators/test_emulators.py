"""The emulators answer as the services do where this project relies on it, and leave nothing."""

import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from emulators import servers
from emulators.fixtures import Cloud
from emulators.tables import load, rows
from transforms.storage import files
from transforms.storage.bigquery_client import client, read_client

NUMBERS = pa.table({"n": pa.array(range(10), pa.int64())})


def _read(name: str, offset: int) -> list[int]:
    from google.cloud.bigquery_storage_v1 import types

    project, dataset, table = name.split(".")
    session = read_client().create_read_session(
        parent=f"projects/{project}",
        read_session=types.ReadSession(
            table=f"projects/{project}/datasets/{dataset}/tables/{table}",
            data_format=types.DataFormat.ARROW,
        ),
        max_stream_count=1,
    )
    stream = read_client().read_rows(session.streams[0].name, offset=offset)
    return stream.to_arrow(session)["n"].to_pylist()


def test_a_stream_is_read_from_an_offset(cloud: Cloud) -> None:
    name = f"{cloud.dataset}.numbers"
    load(name, NUMBERS)
    assert _read(name, offset=7) == [7, 8, 9]


def test_lists_come_back_as_lists(cloud: Cloud) -> None:
    table = pa.table({"words": pa.array([["a", "b"], []], pa.list_(pa.string()))})
    name = f"{cloud.dataset}.words"
    load(name, table)
    assert rows(name)["words"].to_pylist() == [["a", "b"], []]


def test_the_anonymous_table_of_a_query_is_read(cloud: Cloud) -> None:
    name = f"{cloud.dataset}.numbers"
    load(name, NUMBERS)
    job = client().query(f"SELECT n * 2 AS n FROM `{name}` WHERE n > 7")
    job.result()
    assert _read(str(job.destination), offset=0) == [16, 18]


def test_a_dry_run_names_the_tables_and_the_columns(cloud: Cloud) -> None:
    from google.cloud import bigquery

    name = f"{cloud.dataset}.numbers"
    load(name, NUMBERS)
    job = client().query(f"SELECT n AS m FROM `{name}`", bigquery.QueryJobConfig(dry_run=True))
    assert [str(table) for table in job.referenced_tables] == [name]
    assert [field.name for field in job.schema] == ["m"]


def test_another_load_changes_the_etag(cloud: Cloud) -> None:
    name = f"{cloud.dataset}.numbers"
    load(name, NUMBERS)
    before = client().get_table(name).etag
    load(name, NUMBERS)
    assert client().get_table(name).etag != before


def test_a_load_reads_every_file_of_a_pattern(cloud: Cloud) -> None:
    from google.cloud import bigquery

    folder, name = f"gs://{cloud.bucket}/numbers", f"{cloud.dataset}.numbers"
    for part in range(2):
        files.write_bytes(f"{folder}/{part}.csv", b"n\n1\n2\n")
    config = bigquery.LoadJobConfig(
        source_format="CSV",
        schema=[bigquery.SchemaField("n", "INT64")],
        skip_leading_rows=1,
    )
    client().load_table_from_uri(f"{folder}/*.csv", name, job_config=config).result()
    assert sorted(rows(name)["n"].to_pylist()) == [1, 1, 2, 2]


def test_nothing_runs_after_the_fixture_of_a_killed_process() -> None:
    code = (
        "import os; from emulators.servers import storage_server\n"
        "with storage_server() as url: print(url, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], cwd=servers.ROOT, capture_output=True, text=True
    )
    port = killed.stdout.strip().rpartition(":")[2]
    deadline = time.monotonic() + 10
    while _listens(int(port)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _listens(int(port))


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(servers.ServerError, match=r"No module named .*nothing"),
        servers.run("tests.emulators.nothing"),
    ):
        pass


def test_a_missing_environment_names_the_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(servers, "EMULATORS", tmp_path)
    with pytest.raises(servers.ServerError, match="make setup-emulators"):
        servers.emulator_python()
