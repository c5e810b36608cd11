"""The workers of a run: threads of one process, which no other process can reach."""

import argparse
import threading
from collections.abc import Iterator

import apache_beam as beam
import pytest

from pipelines.launch.shared_flags import WORKSPACE
from pipelines.launch.stage import Stage
from pipelines.launch.workspace import Workspace
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
