"""Fine-tunes a language model to name the next novel interest."""

import argparse
import sys

import apache_beam as beam

from models.language.language_model import MODEL_FILES
from models.language.training.finetune_config import FinetuneConfig
from pipelines.launch.dataflow.worker_machines import Workers, hints, worker_flags
from pipelines.launch.flags import config_flags, from_flags
from pipelines.launch.shared_flags import BASE_MODEL, SEED, WORKSPACE
from pipelines.launch.stage import Stage
from pipelines.launch.upstream import ClustersInfo, TransitionsInfo
from pipelines.launch.workspace import Workspace
from transforms.clusters.read_clusters import read_cluster_embeddings
from transforms.language.finetune import Finetune
from transforms.storage.manifest import RowCounts
from transforms.transitions.follow_counts import read_affinity
from transforms.transitions.training_examples import read_prompts

PREFIX = "finetune_"


FLAGS = (
    WORKSPACE,
    SEED,
    *config_flags(
        FinetuneConfig,
        PREFIX,
        {
            "method": "full: all weights; lora: adapters, merged into the weights at the end",
            "max_steps": "most training steps; with 0 only the output head is fitted, and nothing "
            "if --finetune_affinity_pairs is 0 too",
            "batch_size": "examples of a step",
            "learning_rate": "highest learning rate",
            "warmup_steps": "steps until the highest learning rate",
            "eval_every": "steps between evaluations, and between checkpoints",
            "patience": "evaluations without a better validation loss before it stops",
            "eval_examples": "validation examples for the loss",
            "eval_prompts": "validation examples for match rate and recall",
            "dtype": "type of the weights while training: float32 or bfloat16",
            "lora_rank": "rank of the adapters",
            "lora_alpha": "scale of the adapters",
            "affinity_pairs": "pairs per cluster whose follow-up interests, estimated from counts, "
            "the output head is fitted to at the end; 0 for examples alone",
        },
        group="fine-tuning",
    ),
    *worker_flags("train"),
)


def check_flags(flags: argparse.Namespace) -> None:
    """Check the settings."""
    from_flags(FinetuneConfig, flags, PREFIX)


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    """Wire the pipeline."""
    transitions, clusters = workspace.folder("transitions"), workspace.folder("clusters")
    mined = TransitionsInfo.read(workspace)
    return [
        pipeline
        | Finetune(
            transitions=transitions,
            affinity=read_affinity(transitions, read_cluster_embeddings(clusters, mined.level)),
            prompts=read_prompts(transitions, mined.template, list(mined.descriptions)),
            folder=workspace.folder("language_model"),
            unfinished=workspace.unfinished("finetune"),
            base_model=ClustersInfo.read(workspace).base_model,
            config=from_flags(FinetuneConfig, flags, PREFIX),
            hints=hints(flags),
        )
    ]


STAGE = Stage(
    name="finetune",
    folder="language_model",
    description=__doc__ or "",
    own_flags=FLAGS,
    outputs=("history.parquet", *MODEL_FILES),
    stages=("clusters", "transitions"),
    extra_files=lambda _, workspace: ClustersInfo.read(workspace).base_model_files(),
    taken_over=lambda workspace: {"base_model": ClustersInfo.read(workspace).base_model},
    taken_over_paths=(BASE_MODEL,),
    check_flags=check_flags,
    level=lambda _, workspace: workspace.level("transitions"),
    build=build,
    workers=Workers("n1-standard-8", models=True, most=1),
    resumes=True,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
