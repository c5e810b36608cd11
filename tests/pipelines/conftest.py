"""A small shop that takes a while to build, once for all workers of a run of the tests."""

import fcntl
from pathlib import Path

import pytest

from pipelines import train_retrieval
from pipelines.launch.workspace import Workspace
from tests.pipelines import small

_TRAINING = ("--retriever_epochs=1", "--retriever_dimension=8", "--items_per_answer=3")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return a folder with items, log, and a workspace up to the retriever; to be copied."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shop"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            _build(folder)
            (folder / "whole").touch()
    return folder


def _build(folder: Path) -> None:
    items = small.write(folder / "items.parquet", small.items())
    log = small.write(folder / "log.parquet", small.interactions())
    workspace = folder / "workspace"
    assert small.build(workspace, items, log, "--min_rating=2") == 0
    assert small.mine(workspace, log) == 0
    small.write_language_model(Workspace(str(workspace)))
    small.write_novelty_table(Workspace(str(workspace)))
    trained = [f"--workspace={workspace}", *_TRAINING]
    assert train_retrieval.STAGE.main(trained) == 0
