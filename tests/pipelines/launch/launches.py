"""Pipelines submitted to a Dataflow service of ours, and what they staged there."""

import functools
import json
import runpy
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from apache_beam.runners.portability import stager

from emulators.dataflow_server import Dataflow
from emulators.servers import PROJECT, ROOT
from models.interests.alignment import ABLATIONS, PARTS
from pipelines.launch.shared_flags import BASE_MODEL
from pipelines.launch.workspace import FORMATS, PIPELINES, Workspace
from tests.pipelines import small
from transforms.retrieval.align import write_alignment
from transforms.storage import files
from transforms.storage.manifest import RowCounts, StagePlan, write_manifest

REGION = "us-central1"
GPU = "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver"
# Where no image holds them, workers install what they need; nothing is downloaded to the launcher.
REQUIREMENTS = (f"--requirements_file={ROOT}/requirements/base.txt", "--requirements_cache=skip")
FLAGS = {
    "build_clusters": ["--items", "--interactions", "--clusters=3,6", *REQUIREMENTS],
    "mine_transitions": ["--interactions"],
    "finetune": [f"--accelerator={GPU}", *REQUIREMENTS],
    "build_novelty_table": [f"--accelerator={GPU}", *REQUIREMENTS],
    "train_retrieval": [f"--accelerator={GPU}", "--min_ram=64GB", *REQUIREMENTS],
    "evaluate": list(REQUIREMENTS),
    "recommend": ["--interactions", "--ignore_gates", *REQUIREMENTS],
}


def make_shop(mined: Path, folder: Path) -> None:
    """Copy the small shop into a folder, and complete its `workspace/`.

    The stages without a model are real. Of the others a launcher reads the manifest and how the
    fine-tuning went: they hold one small file each.
    """
    shutil.copytree(mined, folder, dirs_exist_ok=True)
    workspace = folder / "workspace"
    built = small.manifest(workspace, "clusters")
    built["flags"]["base_model"] = BASE_MODEL.default  # one that workers have too
    (workspace / "clusters" / "manifest.json").write_text(json.dumps(built))
    level = small.manifest(workspace, "transitions")["level"]
    small.write_language_model(Workspace(str(workspace)))
    stand_in = files.write_record(str(workspace / "novelty_table"), "stand-in", b"table")
    weights = dict.fromkeys(ABLATIONS, np.zeros(len(PARTS)))
    alignment = write_alignment(str(workspace / "retrieval"), weights, 0)
    for stage, record in (("novelty_table", stand_in), ("retrieval", alignment)):
        flags = {"blocked_clusters": [], "items_per_answer": 20}
        plan = StagePlan(PIPELINES[stage], {}, flags, level, FORMATS[stage])
        write_manifest(str(workspace / stage), plan, {}, time.time(), RowCounts(files=(record,)))


def upload(folder: Path, bucket: str) -> None:
    """Copy a folder into a bucket."""
    from google.cloud import storage

    into = storage.Client().bucket(bucket)
    for path in folder.rglob("*"):
        if path.is_file():
            into.blob(str(path.relative_to(folder))).upload_from_filename(str(path))


def arguments(bucket: str, pipeline: str) -> list[str]:
    """Return the flags of a launch of a pipeline on a bucket with the shop."""
    named = {
        "--items": f"--items=gs://{bucket}/items.parquet",
        "--interactions": f"--interactions=gs://{bucket}/log.parquet",
    }
    return [
        f"--workspace=gs://{bucket}/workspace",
        "--seed=1",  # not that of the stages that are complete
        *(named.get(flag, flag) for flag in FLAGS[pipeline]),
        "--runner=DataflowRunner",
        f"--project={PROJECT}",
        f"--region={REGION}",
        f"--temp_location=gs://{bucket}/temp",
    ]


@dataclass(frozen=True)
class Launch:
    """A job as the service got it.

    Attributes
    ----------
    job
        The request.
    bucket
        Where it is about.
    staged
        Name -> content of the files beside the pipeline in the staging folder.
    pipeline
        The pipeline as a runner gets it, a beam_runner_api_pb2.Pipeline.
    """

    job: dict[str, Any]
    bucket: str
    staged: dict[str, bytes]
    pipeline: Any

    @property
    def pool(self) -> dict[str, Any]:
        """Return the workers that are asked for."""
        [pool] = self.job["environment"]["workerPools"]
        return pool

    def hinted(self, kind: str) -> set[str]:
        """Return the names of the steps with a resource hint of a kind."""
        components = self.pipeline.components
        urn = f"beam:resources:{kind}:v1"
        return {
            step.unique_name
            for step in components.transforms.values()
            if not step.subtransforms
            and step.environment_id
            and urn in components.environments[step.environment_id].resource_hints
        }

    def steps(self, prefix: str) -> set[str]:
        """Return the names of the steps that workers do, of a part of the pipeline."""
        return {
            step.unique_name
            for step in self.pipeline.components.transforms.values()
            if step.environment_id
            and not step.subtransforms
            and f"{step.unique_name}/".startswith(f"{prefix}/")
        }


def launch(
    shop: Path, bucket: str, service: Dataflow, pipeline: str, more: Sequence[str] = ()
) -> Launch:
    """Submit a pipeline as a user does, with the shop in an empty bucket."""
    upload(shop, bucket)
    endpoint = f"--dataflow_endpoint={service.endpoint}"
    argv = [*arguments(bucket, pipeline), endpoint, *more]
    assert run_as_main(f"pipelines.{pipeline}", argv) == 0
    return read(service.jobs[-1])


def run_as_main(program: str | Path, argv: Sequence[str]) -> int:
    """Run a module as `python -m` does, or a script, in this process; return the exit code.

    Beam pickles the functions of the module as those of `__main__`. The launches of a process
    share one wheel.
    """
    run: Callable[..., object] = (
        functools.partial(runpy.run_path, str(program))
        if isinstance(program, Path)
        else functools.partial(runpy.run_module, program, alter_sys=True)
    )
    installed = SimpleNamespace(check_output=lambda command: _pip_freeze())
    with (
        patch.object(sys, "argv", [str(program), *argv]),
        patch.object(stager, "subprocess", installed),
        warnings.catch_warnings(action="ignore", category=RuntimeWarning),  # imported before
        pytest.raises(SystemExit) as end,
    ):
        run(run_name="__main__")
    return end.value.code


@functools.cache
def _pip_freeze() -> bytes:
    """Beam stages with every job what pip says is installed, which takes pip seconds."""
    return subprocess.check_output([sys.executable, "-m", "pip", "freeze"])


def read(job: dict[str, Any]) -> Launch:
    """Read what a job staged."""
    from apache_beam.portability.api import beam_runner_api_pb2
    from google.cloud import storage

    url = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
    bucket, _, name = url.removeprefix("gs://").partition("/")
    folder = name.rpartition("/")[0]
    staged = {
        blob.name.removeprefix(f"{folder}/"): blob.download_as_bytes()
        for blob in storage.Client().list_blobs(bucket, prefix=f"{folder}/")
    }
    pipeline = beam_runner_api_pb2.Pipeline.FromString(staged.pop("pipeline.pb"))
    return Launch(job, bucket, staged, pipeline)
