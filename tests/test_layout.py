"""What a machine that only mines transitions must be able to do without."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "tensorflow", "tensorflow_recommenders", "vllm")
PIPELINES = (
    "build_clusters",
    "mine_transitions",
    "finetune",
    "build_novelty_table",
    "train_retrieval",
    "evaluate",
    "recommend",
    "explore",
)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_pipelines_import_no_heavy_package(pipeline: str) -> None:
    program = (
        f"import sys, pipelines.{pipeline}\n"
        f"print(*(name for name in {HEAVY} if name in sys.modules))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == []


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_help_names_the_workspace(pipeline: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", f"pipelines.{pipeline}", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--workspace" in said.stdout
