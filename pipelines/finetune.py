"""Fine-tunes a language model to name the next novel interest."""

import argparse
import sys

import apache_beam as beam

from models.language.training.finetune_config import FinetuneConfig
from pipelines.launch import dataflow
from pipelines.launch import flags as command_line
from pipelines.launch.stage import Stage
from pipelines.launch.upstream import prompt_template
from pipelines.launch.workspace import Workspace
from transforms.clusters.read_clusters import read_cluster_embeddings, read_descriptions
from transforms.language.finetune import Finetune
from transforms.storage.manifest import RowCounts
from transforms.transitions.follow_counts import read_affinity
from transforms.transitions.training_examples import read_prompts

PREFIX = "finetune_"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this pipeline."""
    command_line.add_workspace(parser)
    command_line.add_base_model(parser)
    command_line.add_fields(
        parser,
        FinetuneConfig,
        PREFIX,
        {
            "method": "full: all weights; lora: adapters, merged into the weights at the end",
            "max_steps": "training steps, at most; with 0 the output head alone is fitted, and "
            "nothing if --finetune_affinity_pairs is 0 too",
            "batch_size": "examples in a step",
            "learning_rate": "highest learning rate",
            "warmup_steps": "steps until it is reached",
            "eval_every": "steps between evaluations, and between checkpoints",
            "patience": "evaluations without a better validation loss before it stops",
            "eval_examples": "validation examples for the loss",
            "eval_prompts": "validation examples for match rate and recall",
            "dtype": "of the weights while training: float32 or bfloat16",
            "lora_rank": "rank of the adapters",
            "lora_alpha": "their scale",
            "affinity_pairs": "pairs of interests for each cluster whose next interests, as counts "
            "expect them, the output head is fitted to at the end; 0 for examples alone",
        },
    )
    dataflow.add_hints(parser, "train")


def check_flags(flags: argparse.Namespace) -> None:
    """Check the settings."""
    command_line.from_flags(FinetuneConfig, flags, PREFIX)


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    """Wire the pipeline."""
    transitions, clusters = workspace.folder("transitions"), workspace.folder("clusters")
    level = workspace.level("transitions")
    descriptions = read_descriptions(clusters, level)
    return [
        pipeline
        | Finetune(
            examples=workspace.folder("transitions", "examples"),
            affinity=read_affinity(transitions, read_cluster_embeddings(clusters, level)),
            prompts=read_prompts(transitions, prompt_template(workspace), descriptions),
            folder=workspace.folder("language_model"),
            unfinished=workspace.unfinished("finetune"),
            base_model=flags.base_model,
            config=command_line.from_flags(FinetuneConfig, flags, PREFIX),
            hints=dataflow.hints(flags),
        )
    ]


STAGE = Stage(
    name="finetune",
    folder="language_model",
    description=__doc__ or "",
    add_flags=add_flags,
    external={},
    stages=("clusters", "transitions"),
    level=lambda flags, workspace: workspace.level("transitions"),
    build=build,
    check_flags=check_flags,
    model_files=command_line.base_model_files,
    resumes=True,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
