"""What is wrong with a table or query is said in one line, before any work."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pyarrow as pa
import pytest
from google.api_core.exceptions import Forbidden, RetryError

from emulators.fixtures import Cloud
from emulators.http_service import serve_json
from emulators.read_proxy import read_proxy
from emulators.storm import watched
from emulators.tables import load
from tests.transforms.eager import run
from transforms.errors import InputError
from transforms.inputs.filters import Period
from transforms.inputs.sources import Source, find_source
from transforms.storage import bigquery_client

COLUMNS = ["user_id", "item_id", "timestamp"]
DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
MIDNIGHT = int(DAY.timestamp() * 1e6)
TIME = pa.timestamp("us", tz="UTC")
LOG = pa.table(
    {
        "user_id": ["a", "b", "c"],
        "item_id": pa.array([1, 2, 3], pa.int64()),
        "timestamp": pa.array([DAY, None, DAY + datetime.timedelta(days=1)], TIME),
        "page": ["x", "y", "z"],
    }
)


@pytest.fixture(scope="module")
def log(cloud: Cloud) -> str:
    """Return the name of a table of interactions, with one column too many."""
    name = f"{cloud.dataset}.log"
    load(name, LOG)
    return name


def table_of(cloud: Cloud, table: pa.Table) -> Source:
    name = f"{cloud.dataset}.log"
    load(name, table)
    return find_source(f"bq://{name}", "interactions")


def refusal(source: Source) -> str:
    """Return why a source is not taken, which is one line."""
    with pytest.raises(InputError) as error:
        source.check(COLUMNS)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("value", ["bq://{log}", "SELECT * FROM `{log}`"])
def test_what_can_be_read_is_taken(log: str, value: str) -> None:
    source = find_source(value.format(log=log), "interactions")
    source.check(COLUMNS)
    assert source.has_column("page")
    assert not source.has_column("rating")


@pytest.mark.parametrize("value", ["bq://{log}2", "bq://{log}", "SELECT * FROM `{log}2`"])
def test_what_is_not_there_is_named(log: str, value: str) -> None:
    name = log if value.endswith("2`") or value.endswith("2") else log.replace("dataset", "other")
    message = refusal(find_source(value.format(log=name), "interactions"))
    assert message.startswith("--interactions: ")
    assert "is the name right?" in message
    assert "http" not in message


@pytest.mark.parametrize("value", ["bq://{}", "SELECT * FROM `{}`"])
def test_a_missing_column_is_named_with_the_nearest(cloud: Cloud, value: str) -> None:
    name = f"{cloud.dataset}.log"
    load(name, LOG.rename_columns(["User_ID", "item_id", "timestamp", "page"]))
    message = refusal(find_source(value.format(name), "interactions"))
    assert "has no column 'user_id'; it has: User_ID, " in message
    assert message.endswith("give --interaction_columns=user_id=User_ID")


@pytest.mark.parametrize("value", ["bq://{}", "SELECT * FROM `{}`"])
def test_a_column_of_another_sort_is_named(cloud: Cloud, value: str) -> None:
    name = f"{cloud.dataset}.log"
    load(name, LOG.set_column(2, "timestamp", pa.array([True, False, None])))
    message = refusal(find_source(value.format(name), "interactions"))
    assert "the column 'timestamp' is BOOLEAN, not TIMESTAMP or " in message


def test_a_table_without_rows_is_refused(cloud: Cloud) -> None:
    assert refusal(table_of(cloud, LOG.slice(0, 0))).endswith("has no rows")


def test_limits_that_leave_no_row_are_named(cloud: Cloud) -> None:
    name = f"{cloud.dataset}.log"
    load(name, LOG.slice(0, 1))
    message = refusal(find_source(f"bq://{name}", "interactions", Period(since=2 * 10**15)))
    assert 'has no rows where (timestamp IS NULL OR (timestamp >= TIMESTAMP "2033-' in message


def test_a_restriction_that_is_none_is_refused(log: str) -> None:
    source = find_source(f"bq://{log}", "interactions", row_restriction="nothing = 1")
    assert "nothing" in refusal(source)


def test_a_view_needs_a_query(cloud: Cloud, log: str) -> None:
    from google.cloud import bigquery

    view = bigquery.Table(f"{cloud.dataset}.view")
    view.view_query = f"SELECT * FROM `{log}`"
    name = str(bigquery.Client().create_table(view).reference)
    assert f"give a query that reads it, --interactions='SELECT * FROM `{name}`'" in refusal(
        find_source(f"bq://{name}", "interactions")
    )


@pytest.mark.parametrize(
    "query", ["SELECT 1 FROM", "SELECT nothing FROM `{log}`", "SELECT 1; DROP TABLE `{log}`"]
)
def test_a_query_that_is_none_is_refused(log: str, query: str) -> None:
    assert refusal(find_source(query.format(log=log), "interactions")).startswith(
        "--interactions: SELECT"
    )


def test_a_check_changes_nothing(log: str) -> None:
    before = bigquery_client.client().get_table(log).etag
    with pytest.raises(InputError):
        find_source(f"SELECT 1; DELETE FROM `{log}` WHERE TRUE", "interactions").check(COLUMNS)
    assert bigquery_client.client().get_table(log).etag == before


@pytest.mark.parametrize("value", ["bq://{}", "SELECT * FROM `{}`"])
def test_a_fingerprint_changes_with_the_table_alone(cloud: Cloud, value: str) -> None:
    name = f"{cloud.dataset}.log"
    load(name, LOG)
    before = find_source(value.format(name), "interactions").fingerprint()
    assert find_source(value.format(name), "interactions").fingerprint() == before
    load(name, LOG)
    assert find_source(value.format(name), "interactions").fingerprint() != before


def test_a_fingerprint_changes_with_the_query(log: str) -> None:
    one, other = (
        find_source(f"SELECT * FROM `{log}` WHERE page = '{page}'", "interactions") for page in "xy"
    )
    assert one.fingerprint() != other.fingerprint()


# What is asked of the service.


@pytest.mark.parametrize(
    ("restriction", "period", "asked", "users"),
    [
        (None, Period(), "", ["a", "b", "c"]),
        (None, Period(since=MIDNIGHT + 1), "(timestamp IS NULL OR (timestamp >= TIMESTAMP ", "bc"),
        (None, Period(until=MIDNIGHT + 1), "(timestamp IS NULL OR (timestamp < TIMESTAMP ", "ab"),
        ("page > 'x'", Period(), "(page > 'x')", "bc"),
        ("page > 'x'", Period(until=MIDNIGHT + 1), "(page > 'x') AND (timestamp IS NULL ", "b"),
    ],
)
def test_only_rows_and_columns_that_are_used_are_sent(
    cloud: Cloud, log: str, monkeypatch, restriction: str | None, period: Period, asked: str, users
) -> None:
    address = "BIGQUERY_STORAGE_EMULATOR_HOST"
    with read_proxy(cloud.environment[address]) as proxy:
        monkeypatch.setenv(address, proxy.address)
        source = find_source(f"bq://{log}", "interactions", period, restriction)
        tables = run(lambda pipeline: {"read": pipeline | source.read()})["read"]
    [request] = proxy.sessions
    assert list(request.read_session.read_options.selected_fields) == COLUMNS
    assert request.read_session.read_options.row_restriction.startswith(asked)
    assert request.max_stream_count == 1000
    assert sorted(user for table in tables for user in table["user_id"].to_pylist()) == list(users)


@pytest.mark.parametrize("value", ["bq://{}", "SELECT * FROM `{}`"])
def test_work_is_done_in_the_project_that_is_given(
    cloud: Cloud, log: str, monkeypatch, value: str
) -> None:
    address = "BIGQUERY_STORAGE_EMULATOR_HOST"
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    with (
        read_proxy(cloud.environment[address]) as proxy,
        watched("BIGQUERY_EMULATOR_HOST", "/jobs|/queries") as jobs,
    ):
        monkeypatch.setenv(address, proxy.address)
        source = find_source(value.format(log), "interactions", project="other-proj")
        source.check(COLUMNS)
        source.fingerprint()
        run(lambda pipeline: {"read": pipeline | source.read()})
    assert {request.parent for request in proxy.sessions} == {"projects/other-proj"}
    assert all("/projects/other-proj/" in path for path in jobs)
    assert bool(jobs) == value.startswith("SELECT")


# What the services answer when they refuse, from a server that does nothing else.


@contextmanager
def refusing(patch: pytest.MonkeyPatch, status: int, reason: str) -> Iterator[list[str]]:
    """Refuse all requests of the REST API; yield the paths of those that come."""
    error = {"reason": reason, "message": "No,\nnot you.", "domain": "global"}
    asked: list[str] = []

    def refuse(path: str, body: bytes) -> tuple[int, dict]:
        asked.append(path)
        return status, {"error": {"code": status, "message": "No", "errors": [error]}}

    with serve_json(refuse) as url:
        patch.setenv("BIGQUERY_EMULATOR_HOST", url)
        yield asked


@pytest.mark.parametrize("value", ["bq://test-proj.shop.log", "SELECT * FROM `shop.log`"])
@pytest.mark.parametrize(
    ("status", "reason", "hint"),
    [
        (403, "accessDenied", "grant roles/bigquery.dataViewer on the table"),
        (401, "authError", "gcloud auth application-default login"),
    ],
)
def test_a_refusal_of_the_service_says_what_to_do(
    cloud: Cloud, monkeypatch, value: str, status: int, reason: str, hint: str
) -> None:
    with refusing(monkeypatch, status, reason):
        assert hint in refusal(find_source(value, "interactions"))


def test_a_quota_that_is_used_up_is_no_fault_of_the_flags(cloud: Cloud, monkeypatch) -> None:
    monkeypatch.setattr(bigquery_client, "RETRY_SECONDS", 2.0)
    with refusing(monkeypatch, 403, "quotaExceeded"), pytest.raises(Forbidden):
        find_source("bq://test-proj.shop.log", "interactions").check(COLUMNS)


@pytest.mark.parametrize("value", ["bq://test-proj.shop.log", "SELECT * FROM `shop.log`"])
def test_a_service_that_stays_away_is_asked_again_for_a_while(
    cloud: Cloud, monkeypatch, value: str
) -> None:
    monkeypatch.setattr(bigquery_client, "RETRY_SECONDS", 2.0)
    with refusing(monkeypatch, 503, "backendError") as asked:
        with pytest.raises(RetryError):
            find_source(value, "interactions").check(COLUMNS)
        assert len(asked) > 1


def test_a_session_that_is_refused_says_what_to_grant(cloud: Cloud, log: str, monkeypatch) -> None:
    address = "BIGQUERY_STORAGE_EMULATOR_HOST"
    denied = grpc.StatusCode.PERMISSION_DENIED
    with read_proxy(cloud.environment[address], refuse=denied) as proxy:
        monkeypatch.setenv(address, proxy.address)
        message = refusal(find_source(f"bq://{log}", "interactions"))
    assert "refused by the proxy; grant roles/bigquery.dataViewer" in message


def test_without_credentials_it_says_how_to_get_some(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing.json"))
    message = refusal(find_source("bq://test-proj.shop.log", "interactions"))
    assert "gcloud auth application-default login" in message
