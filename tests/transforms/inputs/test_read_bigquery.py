"""Reading BigQuery through the Storage Read API: every row once, and nothing that is not asked."""

import pyarrow as pa
import pytest

from emulators.fixtures import Cloud
from emulators.read_proxy import ReadProxy, read_proxy
from emulators.tables import load
from tests.transforms.eager import run
from transforms.inputs import read_bigquery
from transforms.inputs.input_format import POSITION
from transforms.inputs.read_bigquery import ReadBigQuery, ReadStream, gather
from transforms.storage.bigquery_client import TableName

ROWS = 300_000  # so that a stream is several messages
ADDRESS = "BIGQUERY_STORAGE_EMULATOR_HOST"


@pytest.fixture(scope="module")
def numbers(cloud: Cloud) -> TableName:
    name = TableName.parse(f"{cloud.dataset}.numbers", "items")
    n = pa.array(range(ROWS), pa.int64())
    load(str(name), pa.table({"n": n, "twice": pa.array([2 * i for i in range(ROWS)], pa.int64())}))
    return name


@pytest.fixture
def proxy(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> ReadProxy:
    monkeypatch.setattr(read_bigquery, "MAX_STREAMS", 2)
    with read_proxy(cloud.environment[ADDRESS]) as proxy:
        monkeypatch.setenv(ADDRESS, proxy.address)
        yield proxy


def read(of: TableName | str) -> list[pa.Table]:
    transform = ReadBigQuery(of, ("n",), "", "--items")
    return run(lambda pipeline: {"read": pipeline | transform})["read"]


def values(tables: list[pa.Table], column: str = "n") -> list[int]:
    return sorted(pa.concat_tables(tables)[column].to_pylist())


def test_a_table_is_read_whole(numbers: TableName) -> None:
    assert values(read(numbers)) == list(range(ROWS))


def test_a_query_is_read_whole(numbers: TableName) -> None:
    tables = read(f"SELECT twice AS n FROM `{numbers}` WHERE n < 1000")
    assert values(tables) == list(range(0, 2000, 2))


def test_positions_are_unique(numbers: TableName) -> None:
    assert len(set(values(read(numbers), POSITION))) == ROWS


def test_many_streams_are_asked_for(numbers: TableName, proxy: ReadProxy) -> None:
    read(numbers)
    [request] = proxy.sessions
    assert request.max_stream_count == 2
    assert len({request.read_stream for request in proxy.reads}) == 2


@pytest.mark.parametrize("messages", [0, 1, 2])
def test_a_stream_that_breaks_goes_on_at_its_offset(
    numbers: TableName, proxy: ReadProxy, messages: int
) -> None:
    proxy.break_after = messages
    assert values(read(numbers)) == list(range(ROWS))
    offsets = sorted(request.offset for request in proxy.reads)
    assert len(offsets) == 4  # two streams, each once more
    assert offsets[:2] == [0, 0]
    assert all((offset > 0) == (messages > 0) for offset in offsets[2:])


def test_a_bundle_that_is_tried_again_gives_the_same_rows(
    numbers: TableName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_bigquery, "BATCH_ROWS", 1000)
    stream = next(ReadBigQuery(numbers, ("n",), "", "--items")._streams(numbers))
    reader = ReadStream("--items")
    reader.setup()
    given_up = reader.process(stream)
    begun = next(given_up)
    given_up.close()
    again = list(reader.process(stream))
    reader.teardown()
    assert again[0].equals(begun)
    assert len(set(values(again, POSITION))) == sum(table.num_rows for table in again)


def test_batches_are_put_together_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_bigquery, "BATCH_ROWS", 3)
    schema = pa.schema({"n": pa.int64()})
    batches = [pa.record_batch({"n": pa.array([i, i], pa.int64())}) for i in range(5)]
    tables = list(gather(iter(batches), schema))
    assert [table.num_rows for table in tables] == [4, 4, 2]
    assert pa.concat_tables(tables)["n"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_large_rows_make_smaller_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_bigquery, "BATCH_BYTES", 16)
    schema = pa.schema({"n": pa.int64()})
    batches = [pa.record_batch({"n": pa.array([i], pa.int64())}) for i in range(4)]
    assert [table.num_rows for table in gather(iter(batches), schema)] == [2, 2]
