"""The whole job on Google Cloud's emulators: BigQuery to BigQuery, with a workspace at gs://."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from emulators import tables
from emulators.fixtures import Cloud
from pipelines.explore import STAGES
from tests import contract
from tests.pipelines.real import PER_LABEL, TOP_N, explore_flags, slice_of_movielens
from transforms.storage import files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TWO_WORKERS = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@dataclass(frozen=True)
class Job:
    """A job that has run.

    Attributes
    ----------
    workspace
        A local copy of what it left at gs://.
    interactions
        The Parquet file with the rows that it read from BigQuery.
    dataset
        Where its tables are.
    again
        Its command.
    """

    workspace: Path
    interactions: Path
    dataset: str
    again: list[str]


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def job(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder, dataset = tmp_path_factory.mktemp("job"), cloud.dataset
    inputs = slice_of_movielens(folder)
    for name, path in zip(("interactions", "items"), inputs, strict=True):
        tables.load(f"{dataset}.{name}", pq.read_table(path))
    remote = f"gs://{cloud.bucket}/workspace"
    command = [
        *(sys.executable, "-m", "pipelines.explore", f"--workspace={remote}"),
        *explore_flags(f"bq://{dataset}.interactions", f"bq://{dataset}.items"),
        f"--output_dataset={dataset}",
        "--finetune_method=lora",
        *TWO_WORKERS,
    ]
    run(command)
    for path in files.list_folder(remote):
        copy = folder / "workspace" / path.removeprefix(f"{remote}/")
        files.write_bytes(str(copy), files.read_bytes(path))
    return Job(folder / "workspace", inputs[0], dataset, command)


def test_workspace_keeps_every_promise(job: Job) -> None:
    contract.check_workspace(job.workspace, pq.read_table(job.interactions), PER_LABEL, TOP_N)


@pytest.mark.parametrize("name", ["novelty_table", "recommendations"])
def test_tables_have_the_rows_of_the_workspace(job: Job, name: str) -> None:
    found = tables.rows(f"{job.dataset}.{name}").to_pylist()
    assert sorted(map(repr, found)) == sorted(map(repr, contract.read(job.workspace / name)))


def test_second_run_does_nothing(job: Job) -> None:
    assert run(job.again).count("complete already, nothing to do") == len(STAGES)
