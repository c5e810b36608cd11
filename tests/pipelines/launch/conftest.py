"""Runs of the small stages of `shout`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.launch.stage import Stage
from tests.pipelines.launch.shout import RUNS, SHOUT


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.clear()


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.csv"
    path.write_text("word\nhello\nworld\n")
    return path


@pytest.fixture
def run(tmp_path: Path, words: Path) -> Callable[..., int]:
    def run(*flags: str, stage: Stage = SHOUT) -> int:
        return stage.main([f"--workspace={tmp_path / 'w'}", f"--items={words}", *flags])

    return run


@pytest.fixture
def stage_folder(tmp_path: Path) -> Path:
    return tmp_path / "w" / "clusters"
