"""Examples as the fine-tuning takes them, and its checkpoints in Cloud Storage."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.interests.follow_lift import FollowLift
from models.language.prompt import Prompts
from models.language.training.finetune_config import FinetuneConfig
from tests.models.language.tiny_llm import save_tiny_llm
from transforms import schemas as col
from transforms.language.finetune import Finetune, output_head_targets, to_examples
from transforms.storage import files
from transforms.storage.folders import Scratch
from transforms.storage.manifest import RowCounts, StagePlan, write_manifest


def test_the_pair_is_excluded_and_the_novel_cluster_is_the_label() -> None:
    table = pa.table([[4, 2], [1, 2], [3, 0], ["p", "q"], ["x", "y"]], schema=col.EXAMPLES)
    first, second = to_examples(table)
    assert (first.prompt, first.completion, first.excluded, first.label) == ("p", "x", (1, 4), 3)
    assert second.excluded == (2,)


DESCRIPTIONS = ("green tea", "chess", "running shoes", "pixel art")
PROMPTS = Prompts(tuple(f"{text}, " for text in DESCRIPTIONS), DESCRIPTIONS, ":\n")
CONFIG = FinetuneConfig(
    max_steps=6, batch_size=4, learning_rate=5e-3, warmup_steps=2, eval_every=2, eval_prompts=4
)


FOLLOWS = np.array([[0, 2, 0, 0], [0] * 4, [0, 0, 0, 3], [0] * 4]) << 16
AFFINITY = FollowLift.from_counts(FOLLOWS, np.zeros((4, 4)))


def test_targets_are_what_counts_expect_after_the_prompts_of_pairs() -> None:
    targets = output_head_targets(PROMPTS, AFFINITY, dataclasses.replace(CONFIG, affinity_pairs=4))
    assert targets is not None
    assert len(targets.prompts) == 16  # all pairs
    row = targets.prompts.index(PROMPTS.render(2, 0))
    expected = AFFINITY.probabilities(np.array([2]), np.array([0]))
    assert targets.probabilities[row].tolist() == expected[0].tolist()


def test_no_pairs_are_no_targets() -> None:
    assert (
        output_head_targets(PROMPTS, AFFINITY, dataclasses.replace(CONFIG, affinity_pairs=0))
        is None
    )


@pytest.fixture
def step(storage, tmp_path: Path) -> Callable[[str], Finetune]:
    """Return the step that tunes a tiny model, with its artefacts in some folder."""
    transitions = f"gs://{storage.bucket}/transitions"
    rows = [
        (c1, c2, novel, f"{DESCRIPTIONS[c1]}, {DESCRIPTIONS[c2]}:\n", DESCRIPTIONS[novel])
        for c1, c2, novel in itertools.permutations(range(4), 3)
    ]
    table = pa.Table.from_pylist(
        [dict(zip(col.EXAMPLES.names, row, strict=True)) for row in rows], schema=col.EXAMPLES
    )
    parts = {
        "examples/train/part.parquet": table.slice(0, 16),
        "examples/valid/part.parquet": table.slice(16),
    }
    records = tuple(files.write_parquet(transitions, name, part) for name, part in parts.items())
    plan = StagePlan("mine_transitions", {}, {}, None, 1)
    write_manifest(transitions, plan, {}, 0.0, RowCounts(files=records))
    base_model = str(save_tiny_llm(tmp_path / "tiny"))

    def step(root: str) -> Finetune:
        return Finetune(
            transitions,
            AFFINITY,
            PROMPTS,
            files.join(root, "language_model"),
            files.join(root, "unfinished", "finetune"),
            base_model,
            CONFIG,
        )

    return step


@pytest.mark.parametrize("saves", [1, 3])
def test_a_worker_that_is_lost_costs_what_came_after_its_last_checkpoint(
    step, storage, tmp_path: Path, monkeypatch, saves: int
) -> None:
    remote, save, saved = f"gs://{storage.bucket}/w", Scratch.save, []

    def save_and_die(self: Scratch) -> None:
        save(self)
        saved.append(self.path)
        if len(saved) == saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(Scratch, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        step(remote)._train(None)
    assert not saved[0].exists()  # the disk of the worker
    again = step(remote)._train(None)
    assert len(saved) == 3  # of the two runs together
    monkeypatch.undo()
    assert step(str(tmp_path / "w"))._train(None).files == again.files
