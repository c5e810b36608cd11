"""Two runs never hold a workspace, and a run that is gone does not keep it."""

import errno
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import pytest

from emulators.storm import unwell
from transforms.errors import InputError
from transforms.storage import cloud_storage, files, lock
from transforms.storage.lock import locked

HOLD = """
import sys
from transforms.storage.lock import locked
with locked(sys.argv[1], "finetune"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def preconditions(storage) -> Iterator[None]:
    """Check the generations that requests name: the emulator ignores them."""
    one = threading.Lock()

    def status(method: str, path: str) -> int | None:
        asked = parse_qs(urlsplit(path).query).get("ifGenerationMatch")
        if asked is None or method == "GET":
            return None
        with one:
            found = cloud_storage.read_versioned(f"{WHERE[0]}/.lock")
        return None if int(asked[0]) == (found.generation if found else 0) else 412

    variable, healthy = "STORAGE_EMULATOR_HOST", os.environ["STORAGE_EMULATOR_HOST"]
    with unwell(healthy, status, "conditionNotMet") as url, patch.dict(os.environ, {variable: url}):
        yield


WHERE = [""]  # the workspace of the test that runs


@pytest.fixture(params=["local", "remote"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    return request.getfixturevalue("remote")


@pytest.fixture
def remote(preconditions: None, storage) -> str:
    WHERE[0] = f"gs://{storage.bucket}/w"
    return WHERE[0]


def test_a_second_run_is_refused_with_the_name_of_the_first(workspace: str) -> None:
    with (
        locked(workspace, "evaluate"),
        pytest.raises(InputError) as error,
        locked(workspace, "recommend"),
    ):
        pytest.fail("both hold it")
    said = f"a run of evaluate is on its way in {re.escape(workspace)}: process {os.getpid()} on "
    assert re.match(said, str(error.value))
    assert "\n" not in str(error.value)


def test_a_lock_is_free_after_its_run_and_after_a_failed_one(workspace: str) -> None:
    with pytest.raises(KeyError), locked(workspace, "evaluate"):
        raise KeyError
    for _ in range(2):
        with locked(workspace, "evaluate"):
            pass


def test_of_many_at_once_one_gets_it(workspace: str) -> None:
    ready, got, refused = threading.Barrier(8), [], []

    def run() -> None:
        ready.wait()
        try:
            with locked(workspace, "evaluate"):
                got.append(1)
                done.wait(30)
        except InputError:
            refused.append(1)
            if len(refused) == 7:
                done.set()

    done = threading.Event()
    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    said = f"a run of finetune is on its way in {tmp_path}: process {process.pid} on "
    with pytest.raises(InputError, match=said), locked(str(tmp_path), "evaluate"):
        pytest.fail("both hold it")
    process.kill()
    process.communicate()
    with locked(str(tmp_path), "evaluate"):
        pass


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300])
def test_a_workspace_that_is_no_folder_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    said = "is no folder .*; give another one$"
    with pytest.raises(InputError, match=said), locked(str(tmp_path / name), "evaluate"):
        pytest.fail("held")


def test_a_workspace_that_cannot_be_written_needs_no_lock(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(lock.fasteners.InterProcessLock, "acquire", refuse)
    for _ in range(2):
        with locked(str(tmp_path), "evaluate"):
            pass


def leave(workspace: str, **other: object) -> None:
    """Leave the lock of another run."""
    with locked(workspace, "finetune"):
        content = json.loads(files.read_bytes(f"{workspace}/.lock"))
    files.write_bytes(f"{workspace}/.lock", json.dumps({**content, **other}).encode())


@pytest.mark.parametrize(
    "other",
    [
        {"pid": 4_194_303},  # gone
        {"pid": -1},
        {"pid": os.getpid(), "started": 1.0},  # gone, its number is used again
        {"pid": "?"},
        {"host": "elsewhere", "age": 1e6},  # not renewed
    ],
)
def test_a_stale_lock_is_taken_over(remote: str, monkeypatch, other: dict) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", -1.0 if other.pop("age", None) else 300.0)
    leave(remote, **other)
    with locked(remote, "evaluate"):
        assert json.loads(files.read_bytes(f"{remote}/.lock"))["pipeline"] == "evaluate"
    assert files.read_if_there(f"{remote}/.lock") is None


@pytest.mark.parametrize("other", [{"run": "another"}, {"host": "elsewhere"}])
def test_the_lock_of_a_run_that_goes_on_is_kept(remote: str, other: dict) -> None:
    leave(remote, **other)
    with pytest.raises(InputError, match="a run of finetune"), locked(remote, "evaluate"):
        pytest.fail("both hold it")


def test_the_lock_of_a_live_run_is_kept_when_the_clock_is_set(remote: str, monkeypatch) -> None:
    leave(remote, run="another")
    boot_time = lock.psutil.boot_time()
    monkeypatch.setattr(lock.psutil._psplatform, "boot_time", lambda: boot_time + 3600)
    with pytest.raises(InputError, match="a run of finetune"), locked(remote, "evaluate"):
        pytest.fail("both hold it")


def test_a_damaged_lock_is_kept_until_its_lease_ends(remote: str, monkeypatch) -> None:
    files.write_bytes(f"{remote}/.lock", b"{")
    with pytest.raises(InputError, match=r"a run of \?"), locked(remote, "evaluate"):
        pytest.fail("both hold it")
    monkeypatch.setattr(lock, "LEASE_SECONDS", -1.0)
    with locked(remote, "evaluate"):
        pass


def test_a_run_renews_its_lock_until_another_took_it_over(remote: str, monkeypatch, caplog) -> None:
    monkeypatch.setattr(lock, "RENEW_SECONDS", 0.01)
    renewals: list[int | None] = []
    seen, write_if = threading.Condition(), cloud_storage.write_if

    def write(path: str, content: bytes, generation: int) -> int | None:
        found = write_if(path, content, generation)
        with seen:
            renewals.append(found)
            seen.notify()
        return found

    monkeypatch.setattr(cloud_storage, "write_if", write)
    with locked(remote, "evaluate"):
        with seen:
            assert seen.wait_for(lambda: len(renewals) >= 3, 3)
        files.write_bytes(f"{remote}/.lock", b'{"pipeline": "finetune"}')
        with seen:
            assert seen.wait_for(lambda: None in renewals, 30)
    assert "another run took the lock over" in caplog.text
    assert files.read_bytes(f"{remote}/.lock") == b'{"pipeline": "finetune"}'
