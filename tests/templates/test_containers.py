"""The container files, and the commands that make build and run templates."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEVICES = ("cpu", "gpu")
IMAGE = "us-central1-docker.pkg.dev/test-proj/images/interest-explorer:1"
BUILD = (
    *("template-build", "PIPELINE=finetune", f"IMAGE={IMAGE}"),
    *("SPEC=gs://bucket/finetune.json", "PROJECT=test-proj"),
)
every_device = pytest.mark.parametrize("device", DEVICES)


def instructions(device: str) -> list[tuple[str, str]]:
    """Return (instruction, rest) of a container file, continued lines joined."""
    text = (ROOT / f"templates/Dockerfile.{device}").read_text()
    lines = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def copies(device: str) -> list[list[str]]:
    """Return the words of COPY instructions."""
    return [shlex.split(rest) for name, rest in instructions(device) if name == "COPY"]


def locked(device: str, package: str) -> str:
    """Return the version that a lock file names."""
    lock = (ROOT / f"requirements/{device}.txt").read_text()
    return re.search(rf"(?m)^{package}(\[.*\])?==(\S+)", lock)[2]


def make(*variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "--silent", "PRINT_ONLY=1", *variables], cwd=ROOT, capture_output=True, text=True
    )


@every_device
def test_every_file_that_is_copied_exists(device: str) -> None:
    ours = [words[:-1] for words in copies(device) if not words[0].startswith("--from")]
    assert all((ROOT / path).exists() for paths in ours for path in paths)


@every_device
def test_all_packages_are_copied(device: str) -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {
        name.removesuffix("*")
        for name in config["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    assert wanted <= {path for words in copies(device) for path in words}


@every_device
def test_bases_are_pinned(device: str) -> None:
    bases = [rest for name, rest in instructions(device) if name == "FROM"]
    bases += [words[0].removeprefix("--from=") for words in copies(device) if "--from" in words[0]]
    assert len(bases) == 3
    assert all(re.search(r":\d[\w.-]*$", base) for base in bases), bases


@every_device
def test_versions_are_those_of_the_lock(device: str) -> None:
    text = (ROOT / f"templates/Dockerfile.{device}").read_text()
    assert f"apache/beam_python3.11_sdk:{locked(device, 'apache-beam')} " in text
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert python == ">=3.11,<3.12"
    assert "FROM python:3.11." in text
    assert f"COPY requirements/{device}.txt requirements.txt" in text


@every_device
def test_packages_come_before_the_code(device: str) -> None:
    text = (ROOT / f"templates/Dockerfile.{device}").read_text()
    assert text.index("pip install --no-cache-dir --no-deps --require-hashes") < text.index(
        "COPY pipelines"
    )


@every_device
def test_the_image_is_launcher_and_worker(device: str) -> None:
    environment = " ".join(rest for name, rest in instructions(device) if name == "ENV")
    assert "FLEX_TEMPLATE_PYTHON_PY_FILE=/template/main.py" in environment
    assert instructions(device)[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')


@pytest.mark.parametrize("device", DEVICES)
def test_build_makes_the_image_before_the_template(device: str) -> None:
    done = make(*BUILD, f"DEVICE={device}")
    build, push, template = map(shlex.split, done.stdout.splitlines())
    assert build[:2] == ["docker", "build"]
    assert {f"--file=templates/Dockerfile.{device}", f"--tag={IMAGE}"} <= set(build)
    assert {"--build-arg=PIPELINE=finetune", f"--build-arg=IMAGE={IMAGE}"} <= set(build)
    assert push == ["docker", "push", IMAGE]
    assert template[:4] == ["gcloud", "dataflow", "flex-template", "build"]


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_gcloud_makes_the_spec(tmp_path: Path) -> None:
    from google.cloud.dataflow_v1beta3 import ContainerSpec

    done = make(*BUILD)
    printed = subprocess.run(
        [*shlex.split(done.stdout.splitlines()[-1]), "--print-only"],
        cwd=ROOT,
        env={**os.environ, "CLOUDSDK_CONFIG": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert printed.returncode == 0, printed.stderr
    spec = ContainerSpec.from_json(yaml.safe_load(printed.stdout))
    wanted = json.loads((ROOT / "templates/finetune.json").read_text())
    assert spec.image == IMAGE
    assert [one.name for one in spec.metadata.parameters] == [
        one["name"] for one in wanted["parameters"]
    ]


def test_run_names_the_template_and_its_parameters() -> None:
    done = make(
        *("template-run", "JOB=weekly-1", "SPEC=gs://bucket/finetune.json", "PROJECT=test-proj"),
        *("REGION=us-central1", "PARAMETERS=workspace=gs://bucket/w~clusters=8,16"),
    )
    assert shlex.split(done.stdout) == [
        *("gcloud", "dataflow", "flex-template", "run", "weekly-1"),
        *("--project=test-proj", "--region=us-central1"),
        "--template-file-gcs-location=gs://bucket/finetune.json",
        "--parameters=^~^workspace=gs://bucket/w~clusters=8,16",
    ]


def test_submission_is_the_documented_command() -> None:
    done = make(
        *("dataflow-finetune", "PROJECT=test-proj", "REGION=us-central1", f"IMAGE={IMAGE}"),
        *("WORKSPACE=gs://bucket/w", "ARGS=--accelerator='type:nvidia-tesla-t4;count:1'"),
    )
    assert shlex.split(done.stdout) == [
        *(".venv/bin/python", "-m", "pipelines.finetune", "--runner=DataflowRunner"),
        *("--project=test-proj", "--region=us-central1", "--workspace=gs://bucket/w"),
        *("--temp_location=gs://bucket/w/temp", f"--sdk_container_image={IMAGE}"),
        "--accelerator=type:nvidia-tesla-t4;count:1",
    ]


def test_a_command_is_printed_without_setting_anything_up() -> None:
    done = make("--dry-run", "--always-make", "dataflow-finetune", "PROJECT=p", "REGION=r")
    [command] = done.stdout.splitlines()
    assert "&& printf '%q ' .venv/bin/python -m pipelines.finetune " in command


@pytest.mark.parametrize(
    ("target", "missing"),
    [("template-build", "PIPELINE"), ("template-run", "JOB"), ("dataflow-finetune", "PROJECT")],
)
def test_a_missing_variable_is_named(target: str, missing: str) -> None:
    done = make(target)
    assert done.returncode != 0
    assert re.search(rf"{missing}=\S+ is missing", done.stderr)
