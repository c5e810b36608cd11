"""Workspaces of the small shop, built once for all workers of a run of the tests."""

import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from emulators import http_service
from pipelines.launch.workspace import Workspace
from tests.pipelines import small
from tests.pipelines.in_process import InProcess
from transforms.tables import write_tables
from transforms.workers import saved_model

Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session", autouse=True)
def _no_open_port() -> Iterator[None]:
    """Fail every stage of these tests that listens on a network port in this process."""
    write_manifest = write_tables.write_manifest

    def check_ports_and_write(*arguments: Any) -> None:
        found = psutil.Process().net_connections("inet")
        listening = {each.laddr for each in found if each.status == psutil.CONN_LISTEN}
        ports = [address for address in listening if address.port not in http_service.PORTS]
        assert not ports, f"the stage listens on {ports}"
        write_manifest(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write_tables, "write_manifest", check_ports_and_write)
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Return a function that fills a folder, unless another worker has done that."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def once(name: str, fill: Callable[[Path], None]) -> Path:
        folder = base / name
        folder.mkdir(exist_ok=True)
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (base / f"{name}.whole").exists():
                fill(folder)
                (base / f"{name}.whole").touch()
        return folder

    return once


@pytest.fixture(scope="session")
def mined(once: Once) -> Path:
    """Return a folder with items, log, and a workspace up to the transitions; to be copied."""
    return once("mined", _mine)


@pytest.fixture(scope="session")
def shop(once: Once) -> Path:
    """Return a folder with items, log, and a workspace up to the retriever; to be copied."""
    return once("shop", _train)


def _mine(folder: Path, *flags: str) -> None:
    items = small.write(folder / "items.parquet", small.items())
    log = small.write(folder / "log.parquet", small.interactions())
    assert small.build(folder / "workspace", items, log, *flags) == 0
    assert small.mine(folder / "workspace", log) == 0


def _train(folder: Path) -> None:
    _mine(folder, "--min_rating=2")
    workspace = folder / "workspace"
    small.write_language_model(Workspace(str(workspace)))
    small.write_novelty_table(Workspace(str(workspace)))
    assert small.train(workspace) == 0
    small.write_report(Workspace(str(workspace)))


@pytest.fixture(scope="module")
def model_in_process() -> Iterator[None]:
    """Load the SavedModel into this process; workers that are processes still share one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "SharedProcess", InProcess)
        yield
