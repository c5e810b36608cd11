"""A wheel of this project, which Dataflow installs on workers that have no image of ours."""

import functools
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from transforms.errors import InputError

_ROOT = Path(__file__).parents[3]


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
        for name in (
            "pyproject.toml",
            config["project"]["readme"],
            *config["project"]["license-files"],
        ):
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
