"""The same rows give the same artefacts, be they in files, in a table or the result of a query."""

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emulators.fixtures import Cloud
from emulators.read_proxy import read_proxy
from emulators.tables import load
from tests.pipelines import small
from transforms.inputs import reasons as why

DAY = datetime.datetime.fromtimestamp(small.START + 40_000, datetime.UTC)


def with_times(rows: list[small.Row]) -> pa.Table:
    """Return interactions with timestamps, as BigQuery has them, and a row without any."""
    table = pa.Table.from_pylist([*rows, rows[0] | {"timestamp": None}])
    times = table["timestamp"].cast(pa.timestamp("s", tz="UTC")).cast(pa.timestamp("us", tz="UTC"))
    return table.set_column(2, "timestamp", times)


@pytest.fixture(scope="module")
def log(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the same log as each kind of --interactions."""
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    pq.write_table(with_times(small.interactions()), path)
    name = f"{cloud.dataset}.log"
    load(name, with_times(small.interactions()), partitioned_by="timestamp")
    return {"file": str(path), "table": f"bq://{name}", "query": f"SELECT * FROM `{name}`"}


@pytest.fixture(scope="module")
def clusters(mined: Path) -> Path:
    """Return a workspace whose clusters are complete."""
    return mined / "workspace"


LIMITS = (f"--since={DAY.isoformat()}", "--until=2999-01-01")

Mined = tuple[dict, dict, list]


def mine(clusters: Path, value: str, workspace: Path, *flags: str) -> Mined:
    """Return the digests, the counts of rows and the dead letter of mine_transitions."""
    workspace.mkdir()
    (workspace / "clusters").symlink_to(clusters / "clusters")
    assert small.mine(workspace, value, *flags) == 0
    digests = small.digests(workspace / "transitions")
    rows = small.manifest(workspace, "transitions")["rows"]
    return digests, rows, small.dead_letter(workspace, "mine_transitions")


@pytest.fixture(scope="module")
def of_file(clusters: Path, log: dict[str, str], tmp_path_factory) -> Mined:
    """Return what is mined from a file within limits."""
    return mine(clusters, log["file"], tmp_path_factory.mktemp("file") / "w", *LIMITS)


@pytest.mark.parametrize("kind", ["table", "query"])
def test_bigquery_gives_what_files_give(
    clusters: Path, log: dict[str, str], tmp_path: Path, of_file: Mined, kind: str
) -> None:
    assert mine(clusters, log[kind], tmp_path / "w", *LIMITS) == of_file
    assert [row["reason"] for row in of_file[2]] == ["timestamp is missing"]


def test_the_project_of_beam_pays_for_a_table_that_is_read_without_limits(
    cloud: Cloud, clusters: Path, log: dict[str, str], tmp_path: Path, monkeypatch
) -> None:
    address = "BIGQUERY_STORAGE_EMULATOR_HOST"
    with read_proxy(cloud.environment[address]) as proxy:
        monkeypatch.setenv(address, proxy.address)
        digests, *_ = mine(clusters, log["table"], tmp_path / "w", "--project=other-proj")
    assert digests == small.digests(clusters / "transitions")
    check, read = proxy.sessions
    assert check.parent == read.parent == "projects/other-proj"


def test_items_of_a_table_that_occur_twice_are_chosen_by_content(
    cloud: Cloud, log: dict[str, str], tmp_path: Path
) -> None:
    items = pa.Table.from_pylist(small.items())
    again = items.set_column(1, "title", pa.array([f"other {i}" for i in range(len(items))]))
    made = []
    for number, tables in enumerate([(items, again), (again, items)]):
        name = f"{cloud.dataset}.items"
        load(name, pa.concat_tables(tables))
        assert small.build(tmp_path / str(number), f"bq://{name}", log["table"]) == 0
        made.append(small.digests(tmp_path / str(number) / "clusters"))
    assert made[0] == made[1]
    dead = small.dead_letter(tmp_path / "0", "build_clusters")
    reasons = [row["reason"] for row in dead if row["input"] == "items"]
    assert reasons == [why.DUPLICATE_ITEM] * len(items)
