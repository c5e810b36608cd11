"""The whole job with the real components: text encoder, SmolLM2 in vLLM, TFRS and Beam."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import contract
from transforms.datasets import write_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PER_LABEL, TOP_N = 10, 4


def run(pipeline: str, workspace: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"pipelines.{pipeline}", f"--workspace={workspace}", *flags],
        capture_output=True,
        text=True,
        check=True,
    )


def hashes(workspace: Path) -> dict[str, str]:
    """Hash what must not differ between runs: Parquet and weights."""
    return {
        str(path.relative_to(workspace)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in ("*.parquet", "*.safetensors", "*.jsonl")
        for path in workspace.rglob(pattern)
    }


@pytest.fixture(scope="module")
def slice_of_movielens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A third of the users, their items, and some rows that can't be used."""
    folder = tmp_path_factory.mktemp("input")
    interactions, items = (pq.read_table(path) for path in write_dataset("movielens", str(folder)))
    users = pa.array([str(number) for number in range(1, 200)])
    kept = interactions.filter(pa.compute.is_in(interactions["user_id"], value_set=users))
    broken = kept.slice(0, 3).to_pylist()
    broken[0]["user_id"], broken[1]["item_id"], broken[2]["rating"] = None, "nowhere", float("nan")
    kept = pa.concat_tables([kept, pa.Table.from_pylist(broken, schema=kept.schema)])
    seen = items.filter(pa.compute.is_in(items["item_id"], value_set=kept["item_id"].unique()))
    paths = folder / "slice_interactions.parquet", folder / "slice_items.parquet"
    pq.write_table(kept, paths[0])
    pq.write_table(seen.slice(0, 2_000), paths[1])
    return paths


@pytest.fixture(scope="module")
def flags(slice_of_movielens: tuple[Path, Path]) -> list[str]:
    interactions, items = slice_of_movielens
    return [
        f"--interactions={interactions}",
        f"--items={items}",
        "--clusters=2,3,4,8",
        f"--per_label={PER_LABEL}",
        "--finetune_max_steps=6",
        "--finetune_warmup_steps=1",
        "--finetune_eval_every=3",
        "--finetune_eval_prompts=8",
        "--finetune_eval_examples=16",
        "--retriever_epochs=2",
        f"--top_n={TOP_N}",
    ]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "said.txt").write_text(run("explore", folder, *flags).stdout)
    return folder


def test_workspace_keeps_every_promise(
    workspace: Path, slice_of_movielens: tuple[Path, Path]
) -> None:
    contract.check_workspace(workspace, pq.read_table(slice_of_movielens[0]), PER_LABEL, TOP_N)


def test_summary_says_what_was_found(workspace: Path) -> None:
    said = (workspace / "said.txt").read_text()
    assert "match rate" in said
    assert said.count("-> new: (") == 5


def test_second_run_does_nothing(workspace: Path, flags: list[str]) -> None:
    before = hashes(workspace)
    said = run("explore", workspace, *flags).stderr
    assert said.count("complete already, nothing to do") == 6
    assert hashes(workspace) == before


def test_table_is_the_constrained_distribution_of_the_model(workspace: Path) -> None:
    """Compare with transformers in float32, which scores whole descriptions."""
    import torch

    from models.description_trie import DescriptionTrie
    from models.language_model import branch_log_probabilities, load_language_model
    from models.prompt import DEFAULT_TEMPLATE, PromptTemplate, completion_token_ids

    names = contract.descriptions(workspace)
    template = PromptTemplate.parse(DEFAULT_TEMPLATE)
    model, tokenizer = load_language_model(str(workspace / "language_model"), "float32")
    prompt = template.render(names[0], names[0])
    trie = DescriptionTrie(
        [completion_token_ids(tokenizer, prompt, name) for name in names], tokenizer.eos_token_id
    )
    rows = [row for row in contract.read(workspace / "novelty_table") if row["c1"] in (0, 5)]
    prompts = [template.render(names[row["c1"]], names[row["c2"]]) for row in rows]
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


def test_interrupted_table_is_finished_to_the_same_bytes(workspace: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy)
    plan = copy / "unfinished" / "build_novelty_table" / "plan.json"
    (copy / "novelty_table" / "manifest.json").unlink()
    table = sorted((copy / "novelty_table").glob("*.parquet"))
    for path in table[3:]:
        path.unlink()
    plan.parent.mkdir(parents=True)
    plan.write_bytes(interrupted_plan(workspace, "novelty_table"))
    said = run("build_novelty_table", copy, f"--top_n={TOP_N}").stderr
    assert "takes up where it stopped" in said
    assert hashes(copy / "novelty_table") == hashes(workspace / "novelty_table")


def interrupted_plan(workspace: Path, stage: str) -> bytes:
    """Return the note that an interrupted run of a complete stage had left."""
    import json

    manifest = json.loads((workspace / stage / "manifest.json").read_text())
    plan = {name: manifest[name] for name in ("pipeline", "inputs", "flags", "level")}
    return json.dumps(plan, sort_keys=True).encode()
