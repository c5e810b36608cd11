"""What is said, and the exit code, when Google Cloud does not do what is asked."""

import argparse
import logging
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.io.filesystem import BeamIOError
from google.api_core import exceptions as google
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from emulators.fixtures import Cloud
from emulators.storm import unwell
from emulators.tables import rows
from models.common.model_process import ModelProcessLost
from pipelines.launch.exit_codes import log, run_guarded
from pipelines.launch.shared_flags import SEED, WORKSPACE
from pipelines.launch.stage import Stage
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.errors import InputError
from transforms.storage import bigquery_client, cloud_storage, files
from transforms.storage.manifest import RowCounts
from transforms.tables.write_tables import WriteTable

URL = "GET https://storage.googleapis.com/storage/v1/b/shop?alt=json&key=x: "
MAY_NOT = "nobody@test.iam.gserviceaccount.com does not have storage.objects.get access"
ERRORS = [
    (google.Forbidden(URL + MAY_NOT), 2, f"{MAY_NOT}; grant it"),
    (google.NotFound(f"{URL}The specified bucket does not exist."), 2, "not exist; create it"),
    (google.BadRequest(f"{URL}Invalid bucket name: 's'"), 2, "bucket name: 's'; correct the flag"),
    (google.InvalidArgument("No such column: a."), 2, "No such column: a; correct the flag or the"),
    (google.Unauthorized(f"{URL}Anonymous caller"), 2, "Google Cloud rejected the credentials"),
    (RefreshError("invalid_grant: expired", {"error": "x"}), 2, "gcloud auth application-default"),
    (DefaultCredentialsError("Your default ..."), 2, "Google Cloud rejected the credentials"),
    (google.TooManyRequests(f"{URL}Slow down"), 1, "Slow down; no work is lost: wait, or request"),
    (google.Forbidden(f"{URL}Quota exceeded: jobs"), 1, "Quota exceeded: jobs; no work is lost"),
    (google.ResourceExhausted("read sessions"), 1, "read sessions; no work is lost: wait"),
    (google.ServiceUnavailable(f"{URL}Try later"), 1, "Try later; Google Cloud does not answer"),
    (google.InternalServerError("Oops"), 1, "Oops; Google Cloud does not answer"),
    (google.DeadlineExceeded("Too slow"), 1, "Too slow; Google Cloud does not answer"),
    (ModelProcessLost("the process 7 ended; its last output: a\nb"), 1, "output: a; finished work"),
    (
        google.RetryError("Timeout of 120.0s exceeded", google.ServiceUnavailable("down")),
        1,
        "Timeout of 120.0s exceeded, last exception: 503 down; Google Cloud does not answer",
    ),
    (
        BeamIOError("List operation failed", {"gs://shop/w": google.Forbidden(URL + MAY_NOT)}),
        2,
        f"{MAY_NOT}; grant it",
    ),
]


@pytest.fixture(autouse=True)
def _as_outside_pytest(monkeypatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    # Of connections of google-auth to the internet, which the tests do without.
    monkeypatch.setattr(logging.getLogger("urllib3"), "level", logging.ERROR)


def fail(_: object, error: Exception) -> None:
    raise error


@pytest.mark.parametrize("at", ["launcher", "worker"])
@pytest.mark.parametrize(("error", "code", "said"), ERRORS)
def test_an_error_of_google_cloud_is_one_line(
    capfd: pytest.CaptureFixture[str], at: str, error: Exception, code: int, said: str
) -> None:
    def work() -> None:
        if at == "launcher":
            raise error
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            pipeline | beam.Create([None]) | beam.Map(fail, error)

    assert run_guarded(work) == code
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert "https://" not in lines[0]
    assert "[while running" not in lines[0]


def test_no_text_of_the_data_moves_the_cursor(capfd, monkeypatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # without that of pytest

    def work() -> None:
        log.warning("a title: %s", "\x1b[2Kגן\x9b1A\u202e")
        raise InputError("no column 'a\x1b]0;x\x07\r\nerror: b'")

    assert run_guarded(work) == 2
    said, error = capfd.readouterr().err.splitlines()
    assert said.endswith("a title: \ufffd[2Kגן\ufffd1A\ufffd")
    assert error == "error: no column 'a\ufffd]0;x\ufffd error: b'"


def test_an_error_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        run_guarded(lambda: {}["NotFound: it"])


# A stage on services that are unwell.

NUMBERS = pa.table(
    {"c1": [0, 1], "c2": [1, 0], "novel": [[2], [2, 3]], "probability": [[0.5], [0.25, 0.25]]}
).cast(col.NOVELTY_TABLE)


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    return [
        pipeline
        | beam.Create([NUMBERS])
        | WriteTable(workspace.folder("novelty_table"), "part-00000-of-00001.parquet")
    ]


COUNT = Stage(
    name="count",
    folder="novelty_table",
    description="Writes two rows.",
    own_flags=(WORKSPACE, SEED),
    level=lambda flags, workspace: None,
    build=build,
    output_schema=col.NOVELTY_TABLE,
)


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch) -> None:
    monkeypatch.setattr(bigquery_client, "RETRY_SECONDS", 1.0)
    monkeypatch.setattr(cloud_storage, "RETRY_SECONDS", 1.0)


@pytest.mark.parametrize(
    ("status", "code"), [(400, 2), (403, 2), (404, 2), (429, 1), (500, 1), (503, 1)]
)
def test_a_storage_that_is_unwell_is_one_line(
    cloud: Cloud, monkeypatch, capfd, status: int, code: int
) -> None:
    healthy = cloud.environment["STORAGE_EMULATOR_HOST"]
    with unwell(healthy, lambda method, path: status, "no, sorry") as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert COUNT.main(["--workspace=gs://bucket/w"]) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "no, sorry" in line


@pytest.mark.parametrize(
    ("status", "code"), [(400, 2), (403, 2), (404, 2), (429, 1), (500, 1), (503, 1)]
)
def test_a_bigquery_that_is_unwell_is_one_line_before_any_work(
    cloud: Cloud, monkeypatch, capfd, tmp_path: Path, status: int, code: int
) -> None:
    healthy = cloud.environment["BIGQUERY_EMULATOR_HOST"]
    flags = [f"--workspace={tmp_path / 'w'}", f"--output_table={cloud.dataset}.t"]
    with unwell(healthy, lambda method, path: status, "no, sorry") as url:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        assert COUNT.main(flags) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert "no, sorry" in line
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("service", ["STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST"])
@pytest.mark.parametrize("after", [0, 3, 6, 9])
def test_a_storm_loses_nothing(
    cloud: Cloud, monkeypatch, capfd, caplog, service: str, after: int
) -> None:
    workspace, table = f"gs://{cloud.bucket}/w", f"{cloud.dataset}.t"
    flags = [f"--workspace={workspace}", f"--output_table={table}"]
    seen: list[str] = []

    def storm(method: str, path: str) -> int | None:
        seen.append(path)
        return 503 if len(seen) > after else None

    with unwell(cloud.environment[service], storm, "Try later") as url:
        monkeypatch.setenv(service, url)
        assert COUNT.main(flags) == 1
    assert "Google Cloud does not answer; no work is lost" in capfd.readouterr().err
    monkeypatch.setenv(service, cloud.environment[service])
    assert COUNT.main(flags) == 0
    assert rows(table).sort_by("c1").to_pylist() == NUMBERS.to_pylist()
    assert COUNT.main(flags) == 0
    assert "count: complete already, nothing to do" in caplog.messages


def test_a_short_storm_is_waited_for(cloud: Cloud, monkeypatch) -> None:
    seen: list[str] = []

    def gusts(method: str, path: str) -> int | None:
        seen.append(path)
        return 503 if len(seen) in (2, 5) else None

    monkeypatch.setattr(cloud_storage, "RETRY_SECONDS", 60.0)
    workspace = f"gs://{cloud.bucket}/w"
    with unwell(cloud.environment["STORAGE_EMULATOR_HOST"], gusts, "Try later") as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert COUNT.main([f"--workspace={workspace}"]) == 0
    assert len(seen) > 5


# Credentials.


def test_credentials_reach_no_log_and_no_file(cloud: Cloud, capfd, caplog, monkeypatch) -> None:
    caplog.set_level(logging.DEBUG)
    workspace, dataset = f"gs://{cloud.bucket}/w", cloud.dataset
    assert COUNT.main([f"--workspace={workspace}", f"--output_table={dataset}.t"]) == 0
    key = Path(cloud.environment["GOOGLE_APPLICATION_CREDENTIALS"]).read_text()
    secrets = [line for line in key.replace("\\n", "\n").splitlines() if len(line) == 64]
    assert len(secrets) > 10
    output = capfd.readouterr()
    said = [output.out, output.err, caplog.text]
    said += [files.read_bytes(path).decode("latin-1") for path in files.list_folder(workspace)]
    for table in bigquery_client.client().list_tables(dataset):
        said.append(str(bigquery_client.client().get_table(table).to_api_repr()))
    assert not [secret for secret in [*secrets, "nobody's"] for text in said if secret in text]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError("KeyboardInterrupt [while running 'Read']")]
)
def test_ctrl_c_is_one_line(capfd: pytest.CaptureFixture[str], error: BaseException) -> None:
    def work() -> None:
        try:
            raise error
        except BaseException:  # as Beam does
            logging.getLogger("apache_beam").exception("it failed")
            raise

    assert run_guarded(work) == 130
    assert capfd.readouterr().err == (
        "interrupted; no work is lost: rerun the same command to go on\n"
    )
