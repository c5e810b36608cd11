"""Values that are given to make reach commands as they are: nothing in them is run."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GIVEN = {
    "PROJECT": "my-project",
    "REGION": "us-central1",
    "WORKSPACE": "gs://bucket/w",
    "IMAGE": "image:1",
    "SPEC": "gs://bucket/s.json",
    "PIPELINE": "finetune",
    "JOB": "finetune-1",
    "PARAMETERS": "workspace=gs://bucket/w",
    "PIP_CONF": "pip.conf",
}
TARGETS = {
    "dataflow-finetune": ("PROJECT", "REGION", "WORKSPACE", "IMAGE"),
    "template-build": ("PIPELINE", "IMAGE", "SPEC", "PROJECT", "PIP_CONF"),
    "template-run": ("JOB", "PROJECT", "REGION", "SPEC", "PARAMETERS"),
}
HOSTILE = (
    *("x; touch ran", "$(touch ran)", "`touch ran`", "x' ; touch ran ; '", 'x" ; touch ran ; "'),
    *("$(shell touch ran)", "${shell touch ran}", "x\ntouch ran", "x & touch ran", "$$(touch ran)"),
)


@pytest.fixture(autouse=True)
def no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the values that the `make test` around the tests exports."""
    for name in (*GIVEN, "ARGS", "DATA"):
        monkeypatch.delenv(name, raising=False)


def make(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run make in a folder with the Makefile, an environment that is set up, and stand-ins."""
    for command in ("docker", "gcloud", ".venv/bin/python"):
        path = folder / command
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\necho\n")
        path.chmod(0o755)
    for name in ("Makefile", "pipelines", "requirements", "pyproject.toml", "benchmarks"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    (folder / ".venv/installed-cpu").touch()
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "MAKEFLAGS": ""}
    return subprocess.run(
        ["make", "--silent", *words], cwd=folder, capture_output=True, text=True, env=environment
    )


def run_words(done: "subprocess.CompletedProcess[str]") -> list[str]:
    assert done.returncode == 0, done.stderr
    return [word for line in done.stdout.split("\0\n") for word in line.split("\0") if word]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("target", TARGETS)
def test_values_are_words_of_the_commands(tmp_path: Path, target: str, hostile: str) -> None:
    given = [f"{name}={hostile}" for name in TARGETS[target]]
    found = run_words(make(tmp_path, target, *given))
    printed = make(tmp_path, "PRINT_ONLY=1", target, *given)
    assert not (tmp_path / "ran").exists()
    assert sum(hostile in word for word in found) >= len(given)
    again = shlex.split(printed.stdout) if "\n" not in hostile else []
    assert not again or sum(hostile in word for word in again) >= len(given)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_values_of_the_environment_are_words_too(tmp_path: Path, hostile: str, monkeypatch) -> None:
    for name in TARGETS["template-run"]:
        monkeypatch.setenv(name, hostile)
    found = run_words(make(tmp_path, "template-run"))
    assert not (tmp_path / "ran").exists()
    assert sum(hostile in word for word in found) >= 4


@pytest.mark.parametrize("name", ["DEVICE", "PYTHON"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_value_of_the_set_up_is_run(tmp_path: Path, name: str, hostile: str) -> None:
    make(tmp_path, "demo", f"{name}={hostile}")
    (tmp_path / ".venv/bin/python").unlink()
    (tmp_path / ".venv/installed-cpu").unlink()
    make(tmp_path, "setup", f"{name}={hostile}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "target", ["dataflow-x;touch ran", "bench-x;touch ran", "dataflow-nothing"]
)
def test_only_what_there_is_can_be_started(tmp_path: Path, target: str) -> None:
    done = make(tmp_path, target, *(f"{name}={value}" for name, value in GIVEN.items()))
    assert "there is no" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_further_flags_are_split_as_by_a_shell_and_not_run(tmp_path: Path) -> None:
    flags = "--a='x; touch ran' --accelerator=t4;count:1 \"--q=SELECT '$(touch ran)' FROM t\""
    found = run_words(make(tmp_path, "demo", f"ARGS={flags}"))
    assert found[-3:] == [
        "--a=x; touch ran",
        "--accelerator=t4;count:1",
        "--q=SELECT '$(touch ran)' FROM t",
    ]
    assert not (tmp_path / "ran").exists()


def test_a_quote_without_an_end_starts_nothing(tmp_path: Path) -> None:
    done = make(tmp_path, "demo", "ARGS=--seed=1 --a='x")
    assert done.returncode != 0
    assert not done.stdout


def test_the_benchmark_of_quality_gets_what_is_given(tmp_path: Path) -> None:
    plain = run_words(make(tmp_path, "bench-quality"))
    assert plain == ["-m", "benchmarks.quality"]
    found = run_words(make(tmp_path, "bench-quality", "DATA=a b", "WORKSPACE=c d", "ARGS=--x"))
    assert found[2:] == ["--data=a b", "--workspace=c d", "--x"]
