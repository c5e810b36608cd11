"""The whole job with the real components: text encoder, SmolLM2 in vLLM, TFRS and Beam."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.launch.workspace import Workspace
from tests import contract
from tests.pipelines.real import PER_LABEL, TOP_N, explore_flags, hashes, slice_of_movielens
from transforms.storage.files import FileRecord

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def run(pipeline: str, workspace: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"pipelines.{pipeline}", f"--workspace={workspace}", *flags],
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return slice_of_movielens(tmp_path_factory.mktemp("input"))


@pytest.fixture(scope="module")
def flags(inputs: tuple[Path, Path]) -> list[str]:
    return explore_flags(*inputs)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "said.txt").write_text(run("explore", folder, *flags).stdout)
    return folder


def test_workspace_keeps_every_promise(workspace: Path, inputs: tuple[Path, Path]) -> None:
    contract.check_workspace(workspace, pq.read_table(inputs[0]), PER_LABEL, TOP_N)


def test_summary_says_what_was_found(workspace: Path) -> None:
    said = (workspace / "said.txt").read_text()
    assert "match rate" in said
    assert said.count("-> new: (") == 5


def test_second_run_does_nothing(workspace: Path, flags: list[str]) -> None:
    before = hashes(workspace)
    said = run("explore", workspace, *flags).stderr
    assert said.count("complete already, nothing to do") == 7
    assert hashes(workspace) == before


def test_table_is_the_constrained_distribution_of_the_model(workspace: Path) -> None:
    """Compare with transformers in float32, which scores whole descriptions."""
    import torch

    from models.language.description_trie import DescriptionTrie
    from models.language.language_model import branch_log_probabilities, load_language_model
    from models.language.prompt import DEFAULT_TEMPLATE, PromptTemplate, completion_token_ids
    from transforms.transitions.training_examples import read_prompts

    names = contract.descriptions(workspace)
    template = PromptTemplate.parse(DEFAULT_TEMPLATE)
    asked = read_prompts(str(workspace / "transitions"), template, names)
    model, tokenizer = load_language_model(str(workspace / "language_model"), "float32")
    prompt = asked.render(0, 0)
    trie = DescriptionTrie(
        [completion_token_ids(tokenizer, prompt, name) for name in names], tokenizer.eos_token_id
    )
    rows = [row for row in contract.read(workspace / "novelty_table") if row["c1"] in (0, 5)]
    prompts = [asked.render(row["c1"], row["c2"]) for row in rows]
    excluded = np.zeros((len(rows), len(names)), bool)
    for index, row in enumerate(rows):
        excluded[index, [row["c1"], row["c2"]]] = True
    with torch.inference_mode():
        scores = branch_log_probabilities(model, tokenizer, prompts, trie)
    expected = np.exp(trie.log_probabilities(scores, excluded))
    for index, row in enumerate(rows):
        # vLLM computes in bfloat16: three digits.
        np.testing.assert_allclose(
            row["probability"], expected[index, row["novel"]], rtol=0.1, atol=0.01
        )


def test_status_of_a_complete_table(workspace: Path) -> None:
    assert run("build_novelty_table", workspace, "--status").stdout.startswith("complete: 64 pairs")


@pytest.mark.parametrize("machine", ["", "=g2-standard-4"])
def test_estimate_is_told_without_an_engine(workspace: Path, machine: str) -> None:
    done = run("build_novelty_table", workspace, f"--estimate{machine}")
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert lines["pairs"] == "64"
    assert ("cost" in lines) == bool(machine)
    assert "engine" not in done.stderr


def test_estimate_for_an_unknown_machine_names_those_known(workspace: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run("build_novelty_table", workspace, "--estimate=abacus")
    assert failure.value.returncode == 2
    assert "--estimate: the machine type 'abacus' is not known; give c3-standard-8" in (
        failure.value.stderr
    )


def test_interrupted_table_is_finished_to_the_same_bytes(workspace: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy)
    manifest = copy / "novelty_table" / "manifest.json"
    records = [FileRecord(**file) for file in json.loads(manifest.read_text())["files"]]
    Workspace(str(copy)).committed("novelty_table", "build_novelty_table").adopt(records[:3])
    for record in records[3:]:
        (copy / "novelty_table" / record.path).unlink()
    plan = copy / "unfinished" / "build_novelty_table" / "plan.json"
    plan.write_bytes(interrupted_plan(workspace, "novelty_table"))
    manifest.unlink()
    assert run("build_novelty_table", copy, "--status").stdout.startswith("3 of 8 units done")
    said = run("build_novelty_table", copy, f"--clusters_per_pair={TOP_N}").stderr
    assert "takes up where it stopped" in said
    assert hashes(copy / "novelty_table") == hashes(workspace / "novelty_table")


def interrupted_plan(workspace: Path, stage: str) -> bytes:
    """Return the note that an interrupted run of a complete stage had left."""
    manifest = json.loads((workspace / stage / "manifest.json").read_text())
    plan = {name: manifest[name] for name in ("pipeline", "inputs", "flags", "level")}
    return json.dumps(plan, sort_keys=True).encode()
