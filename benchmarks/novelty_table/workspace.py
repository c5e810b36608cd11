"""The workspace of the comparison: the pipelines make it from MovieLens."""

import subprocess
import sys
from pathlib import Path

from benchmarks.novelty_table.task import Task
from models.language.prompt import PromptTemplate
from pipelines.launch.workspace import Workspace
from transforms.clusters.read_clusters import read_descriptions
from transforms.inputs.datasets import write_dataset
from transforms.transitions.training_examples import make_prompts

LEVEL, FINEST = 1, 2  # of the tree of clusters below
_CLUSTERS = "12,100,761"


def prepare(root: Path) -> None:
    """Run the pipelines up to the fine-tuned model; complete stages are kept.

    subprocess.CalledProcessError if one fails; the pipeline has printed the reason.
    """
    interactions, items = write_dataset("movielens", str(root / "input"))
    log = f"--interactions={interactions}"
    for pipeline, *flags in (
        ("build_clusters", log, f"--items={items}", f"--clusters={_CLUSTERS}"),
        ("mine_transitions", log, f"--level={LEVEL}"),
        ("finetune",),
    ):
        command = [sys.executable, "-m", f"pipelines.{pipeline}", f"--workspace={root}", *flags]
        subprocess.run(command, stdout=sys.stderr, check=True)


def task_of(root: Path, level: int) -> Task:
    """Return the task over the clusters of a level, with the model fine-tuned on `LEVEL`."""
    workspace = Workspace(str(root))
    model = workspace.folder("language_model")
    template = workspace.manifest("transitions")["flags"]["prompt_template"]
    descriptions = read_descriptions(workspace.folder("clusters"), level)
    return Task(model, make_prompts(model, PromptTemplate.parse(template), descriptions))
