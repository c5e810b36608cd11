"""A launch on Dataflow: checks before anything starts, workers of the right size, and our code.

A worker is a container. With `--sdk_container_image` it holds this project and all it needs
(templates/Dockerfile.*); without, the launcher builds a wheel of the project, which Dataflow
installs on top of Beam's own image, with the base dependencies of pyproject.toml.
"""

import argparse
import functools
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from pipelines.launch.workspace import digest
from transforms.errors import InputError

ACCELERATOR = (
    r"type:[a-z0-9-]+;count:[1-9][0-9]*(;machine_type:[a-z0-9-]+)?"
    r"(;install-nvidia-driver(:[0-9a-z.]+)?)?"
)
MIN_RAM = r"[1-9][0-9]*(GB|GiB)"
_PROJECT = re.compile(r"([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_REGION = re.compile(r"[a-z]+-[a-z]+[1-9][0-9]?")
_BUCKET = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(/.*)?")
_MULTI_REGIONS = {"US": "us-", "EU": "europe-", "ASIA": "asia-"}
_DUAL_REGIONS = {
    "NAM4": ("us-central1", "us-east1"),
    "EUR4": ("europe-north1", "europe-west4"),
    "ASIA1": ("asia-northeast1", "asia-northeast2"),
}
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Workers:
    """What the workers of a pipeline are, where flags do not say.

    Attributes
    ----------
    machine_type
        Of the n1 series: GPUs can be attached to it.
    models
        Whether they load a model: packages beyond the base dependencies, an image that does not
        fit the default disk, and one process a machine, since every process would load its own.
    most
        Machines, at most; Dataflow decides where it is None.
    """

    machine_type: str
    models: bool
    most: int | None = None


_WORKERS = {
    "build_clusters": Workers("n1-highmem-8", models=True),  # a sample of all items on one
    "mine_transitions": Workers("n1-standard-4", models=False),
    "finetune": Workers("n1-standard-8", models=True, most=1),
    "build_novelty_table": Workers("n1-standard-8", models=True),
    "train_retrieval": Workers("n1-highmem-8", models=True),  # all histories on one
    "evaluate": Workers("n1-standard-8", models=True),
    "recommend": Workers("n1-standard-8", models=True),
}
_DISK_GB = {False: 50, True: 200}  # by Workers.models


def add_hints(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the flags for the workers of one heavy step, which `hints` returns."""
    parser.add_argument(
        "--accelerator",
        type=_matching(ACCELERATOR, "type:nvidia-tesla-t4;count:1;install-nvidia-driver"),
        help=f"GPU of the workers that {what} on Dataflow, such as 'type:nvidia-l4;count:1;"
        "machine_type:g2-standard-8;install-nvidia-driver' (default: none)",
    )
    parser.add_argument(
        "--min_ram",
        type=_matching(MIN_RAM, "32GB"),
        help=f"memory of the workers that {what} on Dataflow, at least, such as 32GB (default: "
        "what the machine type has)",
    )


def hints(flags: argparse.Namespace) -> dict[str, str]:
    """Return the resource hints that the flags of `add_hints` ask for."""
    return {name: value for name in ("accelerator", "min_ram") if (value := getattr(flags, name))}


def _matching(pattern: str, example: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text and not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not of the form {example}")
        return text

    return parse


def prepare_launch(pipeline: str, flags: argparse.Namespace, options: PipelineOptions) -> None:
    """Check what a job on Dataflow depends on, and complete its options; others are left alone.

    Raises
    ------
    InputError
        If the job could not start, or its workers could not read their input or load their code.
    """
    if "dataflow" not in (options.view_as(StandardOptions).runner or "").lower():
        return
    workers = _WORKERS[pipeline]
    cloud = options.view_as(GoogleCloudOptions)
    _check_place(cloud)
    folders = {
        "workspace": flags.workspace,
        "temp_location": cloud.temp_location,
        "staging_location": cloud.staging_location,
    }
    buckets = {_bucket(flag, path): flag for flag, path in folders.items() if path}
    _check_inputs(flags, options)
    _check_gpu(flags, options)
    _check_packages(pipeline, workers, options)
    for bucket, flag in buckets.items():
        _check_bucket(bucket, flag, cloud)
    _set_defaults(pipeline, flags.workspace, workers, options)


def _check_place(cloud: GoogleCloudOptions) -> None:
    for name, pattern, example in (
        ("project", _PROJECT, "my-project-123"),
        ("region", _REGION, "us-central1"),
    ):
        value = getattr(cloud, name)
        if not value:
            raise InputError(f"--{name} is missing; Dataflow needs one, such as {example}")
        if not pattern.fullmatch(value):
            raise InputError(f"--{name}={value} is no {name} of Google Cloud, such as {example}")
    if not (cloud.temp_location or cloud.staging_location):
        raise InputError("--temp_location is missing: a folder such as gs://my-bucket/temp")


def _check_inputs(flags: argparse.Namespace, options: PipelineOptions) -> None:
    """Check that workers, which see no disk of the launcher, can read what flags name."""
    copy = "copy it to gs:// and name it there"
    ways = dict.fromkeys(("interactions", "items", "previous_workspace"), copy)
    if not options.view_as(WorkerOptions).sdk_container_image:  # it may hold them at that path
        way = "give a hub id, or an --sdk_container_image that holds it"
        ways |= {"base_model": way, "text_encoder": way}
    named = [(name, getattr(flags, name, None), way) for name, way in ways.items()]
    tables = (text.partition("=")[2] for text in getattr(flags, "compare_table", []))
    for name, value, way in (*named, *(("compare_table", folder, copy) for folder in tables)):
        if value and glob.glob(os.path.expanduser(value)):
            raise InputError(
                f"--{name}={value} is on this machine, where workers of Dataflow can't read it; "
                f"{way}"
            )


def _bucket(flag: str, path: str) -> str:
    """Return the bucket of a path; InputError if it is not in Cloud Storage."""
    match = _BUCKET.fullmatch(path)
    if match is None:
        raise InputError(
            f"--{flag}={path} is not in Cloud Storage, where all of a job's workers find it; give "
            "a folder such as gs://my-bucket/folder"
        )
    return match[1]


def _check_gpu(flags: argparse.Namespace, options: PipelineOptions) -> None:
    accelerator = getattr(flags, "accelerator", None) or ""
    machine_type = options.view_as(WorkerOptions).machine_type or ""
    if (
        "type:nvidia-l4;" in accelerator
        and "machine_type:g2-" not in accelerator
        and not machine_type.startswith("g2-")
    ):
        raise InputError(
            f"--accelerator={accelerator}: an L4 is part of a g2 machine alone; name one, as in "
            "'type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver'"
        )


def _check_packages(pipeline: str, workers: Workers, options: PipelineOptions) -> None:
    setup = options.view_as(SetupOptions)
    if workers.models and not (
        options.view_as(WorkerOptions).sdk_container_image
        or setup.requirements_file
        or setup.prebuild_sdk_container_engine
    ):
        raise InputError(
            f"workers of {pipeline} would lack the packages of its models; give "
            "--sdk_container_image=... (templates/Dockerfile.cpu and Dockerfile.gpu make one) or "
            "--requirements_file=..."
        )


def _check_bucket(name: str, flag: str, cloud: GoogleCloudOptions) -> None:
    from google.api_core.exceptions import NotFound
    from google.cloud import storage

    try:
        bucket = storage.Client(project=cloud.project).get_bucket(name)
    except NotFound:
        raise InputError(
            f"--{flag}: there is no bucket gs://{name}; make it with `gcloud storage buckets "
            f"create gs://{name} --location={cloud.region}`"
        ) from None
    if not in_region(bucket.location, bucket.data_locations or [], cloud.region):
        raise InputError(
            f"--{flag}: the bucket gs://{name} is in {bucket.location}, the job in --region="
            f"{cloud.region}; bring both together: all the job's data would cross between them"
        )


def in_region(location: str, parts: list[str], region: str) -> bool:
    """Say whether a bucket's location is, or includes, a region.

    Parameters
    ----------
    location
        A region, a multi-region or a dual region, as Cloud Storage names it.
    parts
        The regions of a dual region that somebody put together.
    """
    if parts:
        return region.upper() in parts
    if location in _MULTI_REGIONS:
        return region.startswith(_MULTI_REGIONS[location])
    return region in (location.lower(), *_DUAL_REGIONS.get(location, ()))


def _set_defaults(
    pipeline: str, workspace: str, workers: Workers, options: PipelineOptions
) -> None:
    cloud, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    key, name = digest(workspace)[:8], pipeline.replace("_", "-")
    cloud.job_name = cloud.job_name or f"{name}-{key}-{time.strftime('%m%d-%H%M%S', time.gmtime())}"
    given = cloud.labels or []
    cloud.labels = [
        *given,
        *(
            label
            for label in (f"pipeline={name}", f"workspace={key}")
            if not any(one.startswith(label.split("=")[0] + "=") for one in given)
        ),
    ]
    worker.machine_type = worker.machine_type or workers.machine_type
    worker.disk_size_gb = worker.disk_size_gb or _DISK_GB[workers.models]
    worker.max_num_workers = worker.max_num_workers or workers.most
    experiments = options.view_as(DebugOptions)
    if workers.models and not experiments.lookup_experiment("use_multiple_sdk_containers"):
        experiments.add_experiment("no_use_multiple_sdk_containers")
    if not worker.sdk_container_image:
        setup = options.view_as(SetupOptions)
        setup.extra_packages = [*(setup.extra_packages or []), str(project_wheel())]


@functools.cache
def project_wheel() -> Path:
    """Build a wheel of this project, without a network; it lives as long as this process.

    Raises
    ------
    InputError
        If this is an installation without its sources.
    """
    if not (_ROOT / "pyproject.toml").exists():
        raise InputError(
            f"{_ROOT} holds no sources to send to the workers; give --sdk_container_image=..., an "
            "image that this project is installed in"
        )
    config = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    packages = config["tool"]["setuptools"]["packages"]["find"]["include"]
    with tempfile.TemporaryDirectory() as source:  # the build leaves files where it is done
        for name in ("pyproject.toml", config["project"]["readme"]):
            shutil.copy(_ROOT / name, source)
        for package in packages:
            name = package.removesuffix("*")
            shutil.copytree(
                _ROOT / name, Path(source, name), ignore=shutil.ignore_patterns("__pycache__")
            )
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "wheel", source, f"--wheel-dir={_wheels().name}"),
                *("--quiet", "--no-deps", "--no-index", "--no-build-isolation"),
            ],
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(f"no wheel of {_ROOT} could be built: {done.stderr}")
    return next(Path(_wheels().name).glob("*.whl"))


@functools.cache
def _wheels() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()
