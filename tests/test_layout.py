"""What a machine that only mines transitions must be able to do without."""

import importlib
import subprocess
import sys

import pytest

from pipelines import explore

HEAVY = ("torch", "transformers", "tensorflow", "tensorflow_recommenders", "vllm")
PIPELINES = [*(stage.name for stage in explore.STAGES), "explore"]


def test_pipelines_import_no_heavy_package() -> None:
    modules = ", ".join(f"pipelines.{name}" for name in PIPELINES)
    program = f"import sys, {modules}\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == []


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_help_names_the_workspace(pipeline: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"pipelines.{pipeline}")
    main = module.main if pipeline == "explore" else module.STAGE.main
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--workspace" in capsys.readouterr().out
