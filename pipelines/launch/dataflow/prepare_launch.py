"""Prepares a launch on Dataflow: checks before any work, names, and the project's code.

A worker is a container. With `--sdk_container_image` it holds this project and all it needs
(templates/Dockerfile.*); without, the launcher builds a wheel of the project, which Dataflow
installs on top of Beam's own image, with the base dependencies of pyproject.toml.
"""

import argparse
import glob
import os
import re
import time
from collections.abc import Iterable

from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from pipelines.launch.dataflow.project_wheel import project_wheel
from pipelines.launch.dataflow.worker_machines import Workers
from pipelines.launch.flags import Flag
from pipelines.launch.shared_flags import BAKE_IT
from pipelines.launch.workspace import digest
from transforms.errors import InputError

_PROJECT = re.compile(r"([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_REGION = re.compile(r"[a-z]+-[a-z]+[1-9][0-9]?")
_BUCKET = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(/.*)?")
_MULTI_REGIONS = {"US": "us-", "EU": "europe-", "ASIA": "asia-"}
_DUAL_REGIONS = {
    "NAM4": ("us-central1", "us-east1"),
    "EUR4": ("europe-north1", "europe-west4"),
    "ASIA1": ("asia-northeast1", "asia-northeast2"),
}


def prepare_launch(
    pipeline: str,
    workers: Workers,
    declared: Iterable[Flag],
    flags: argparse.Namespace,
    options: PipelineOptions,
) -> None:
    """Check what a job on Dataflow depends on, and complete its options; others are left alone.

    Raises
    ------
    InputError
        If the job could not start, or its workers could not read their input or load their code.
    """
    if not _on_dataflow(options):
        return
    cloud = options.view_as(GoogleCloudOptions)
    _check_place(cloud)
    folders = {
        "workspace": flags.workspace,
        "temp_location": cloud.temp_location,
        "staging_location": cloud.staging_location,
    }
    buckets = {_bucket(flag, path): flag for flag, path in folders.items() if path}
    check_readable(declared, flags, options)
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


def _on_dataflow(options: PipelineOptions) -> bool:
    return "dataflow" in (options.view_as(StandardOptions).runner or "").lower()


def check_readable(
    declared: Iterable[Flag], flags: argparse.Namespace, options: PipelineOptions
) -> None:
    """Raise InputError if flags name what workers of Dataflow cannot read.

    They see no disk of the launcher, but the files of their image.
    """
    if not _on_dataflow(options):
        return
    has_image = bool(options.view_as(WorkerOptions).sdk_container_image)
    for flag in declared:
        if not flag.unreadable or (has_image and flag.unreadable == BAKE_IT):
            continue
        value = getattr(flags, flag.name, None)
        named = [text.partition("=")[2] for text in value or []] if flag.repeated else [value]
        for path in named:
            if path and glob.glob(os.path.expanduser(path)):
                raise InputError(
                    f"--{flag.name}={path} is on this machine, where workers of Dataflow cannot "
                    f"read it; {flag.unreadable}"
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
    """Say whether a bucket's location is, or includes, a region; `parts` are a dual region's."""
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
    worker.disk_size_gb = worker.disk_size_gb or workers.disk_gb
    worker.max_num_workers = worker.max_num_workers or workers.most
    experiments = options.view_as(DebugOptions)
    if workers.models and not experiments.lookup_experiment("use_multiple_sdk_containers"):
        experiments.add_experiment("no_use_multiple_sdk_containers")
    if not worker.sdk_container_image:
        setup = options.view_as(SetupOptions)
        setup.extra_packages = [*(setup.extra_packages or []), str(project_wheel())]
