"""The workers of a run: threads of one process, which no other process can reach."""

import argparse
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.launch.runner import running_pipeline
from pipelines.launch.shared_flags import WORKSPACE
from pipelines.launch.stage import Stage
from pipelines.launch.workspace import Workspace
from transforms.errors import InputError
from transforms.storage.manifest import RowCounts

WORKERS = 2
_MEET = threading.Barrier(WORKERS, timeout=20)


class Meet(beam.DoFn):
    """Waits until as many threads as there are workers are in it at once."""

    def process(self, element: int) -> Iterator[RowCounts]:
        _MEET.wait()
        yield RowCounts()


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    return [pipeline | beam.Create(range(4 * WORKERS)) | beam.Reshuffle() | beam.ParDo(Meet())]


THREADED = Stage(
    name="meet",
    folder="clusters",
    description="Its workers wait for each other.",
    own_flags=(WORKSPACE,),
    level=lambda flags, workspace: None,
    build=build,
    threads=True,
)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.cpu_count", lambda: WORKERS)


def test_the_workers_of_a_threaded_stage_work_at_the_same_time(tmp_path) -> None:
    assert THREADED.main([f"--workspace={tmp_path}"]) == 0


def test_threads_of_beam_would_open_ports(tmp_path) -> None:
    """All other runs of the tests of pipelines pass this check of their fixtures."""
    mode = ["--direct_running_mode=multi_threading", f"--direct_num_workers={WORKERS}"]
    with pytest.raises(RuntimeError, match="the stage listens on"):
        THREADED.main([f"--workspace={tmp_path}", *mode])


OPTIONS = PipelineOptions(["--runner=FnApiRunner"])


@pytest.fixture
def system(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Take the place of the system's folder of temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "system"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "system").mkdir()
    return tmp_path / "system"


@pytest.mark.parametrize("workspace", ["w", "gs://bucket/w"])
def test_temporary_files_are_private_and_go_with_the_run(system: Path, workspace: str) -> None:
    with running_pipeline(OPTIONS, f"{workspace}/unfinished/shout/temporary") as pipeline:
        (private,) = system.iterdir()
        assert private.stat().st_mode & 0o777 == 0o700
        assert Path(pipeline.local_tempdir).parent == private
        assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(private)
    assert list(system.iterdir()) == []
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(system)


def test_the_next_run_deletes_what_a_killed_one_left(system: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "w/temporary"
    with running_pipeline(OPTIONS, str(temporary)):
        (private,) = system.iterdir()
    for folder in (private, temporary):
        folder.mkdir(parents=True)
        (folder / "left").touch()
    with running_pipeline(OPTIONS, str(temporary)):
        assert not (private / "left").exists()
        assert not (temporary / "left").exists()
    assert list(system.iterdir()) == []


def test_a_folder_that_the_user_gives_for_the_shuffle_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs").touch()
    options = PipelineOptions(["--runner=FnApiRunner", f"--shuffle_folder={tmp_path}"])
    with running_pipeline(options, str(tmp_path / "w/temporary")):
        pass
    assert (tmp_path / "theirs").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_folder_of_another_user_is_refused_and_left_alone(system: Path) -> None:
    with running_pipeline(OPTIONS, "w/temporary"):
        (private,) = system.iterdir()
    private.mkdir()
    (private / "theirs").touch()
    os.chown(private, 65534, 65534)
    refused = pytest.raises(InputError, match=f"{private} belongs to another user; set TMPDIR")
    with refused, running_pipeline(OPTIONS, "w/temporary"):
        pass
    assert (private / "theirs").exists()
