"""Trains the retriever on the users' histories and packs it with the novelty table.

What evaluate asks for is left out: test users, or with --train_until all that came after it.
"""

import argparse
import sys

import apache_beam as beam
import pyarrow as pa

from models.retrieval.retriever_config import RetrieverConfig
from pipelines.launch import dataflow
from pipelines.launch import flags as command_line
from pipelines.launch.stage import Stage
from pipelines.launch.upstream import blocked_clusters, held_out
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.clusters.read_clusters import ReadItemClusters, read_descriptions
from transforms.inputs.filters import before
from transforms.inputs.interactions import ReadInteractions
from transforms.inputs.validate import DEAD, TALLY
from transforms.retrieval.train_retriever import TrainRetriever
from transforms.retrieval.write_sequence_shards import WriteSequenceShards
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.tables.write_tables import WriteDeadLetter
from transforms.transitions.user_sequences import SequenceParts

PREFIX = "retriever_"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this pipeline."""
    command_line.add_workspace(parser)
    command_line.add_shards(parser)
    command_line.add_interactions(parser)
    command_line.add_train_until(parser)
    parser.add_argument(
        "--items_per_answer",
        type=command_line.whole_number(1),
        default=20,
        help="items that the SavedModel returns for a history, at most (default: 20)",
    )
    command_line.add_fields(
        parser,
        RetrieverConfig,
        PREFIX,
        {
            "dimension": "width of the transformer and of the item embeddings",
            "layers": "layers of the transformer",
            "heads": "attention heads",
            "max_length": "latest items of a history that the transformer sees",
            "dropout": "share of activations dropped in training",
            "item_dropout": "share of items whose own embedding is left out of a training step",
            "learning_rate": "of Adam",
            "batch_size": "rows of --retriever_max_length positions in a step, each of some users",
            "negatives": "most items that a step scores for each position: all, or so many drawn",
            "epochs": "passes over the data, at most",
            "patience": "passes without a better NDCG@10 before it stops",
        },
    )
    dataflow.add_hints(parser, "train")


def check_flags(flags: argparse.Namespace) -> None:
    """Check the settings."""
    command_line.from_flags(RetrieverConfig, flags, PREFIX)
    command_line.check_train_until(flags)


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    """Wire the pipeline."""
    clusters, at_level = workspace.folder("clusters"), workspace.level("novelty_table")
    item_clusters = pipeline | "Clusters" >> ReadItemClusters(clusters, at_level)
    log = pipeline | ReadInteractions(command_line.source(flags, "interactions"), item_clusters)
    unfinished = workspace.unfinished("train_retrieval")
    learned_from = held_out(workspace).learned_from
    descriptions = read_descriptions(clusters, at_level)
    trained = (
        log.usable
        | "BeforeCut" >> beam.Map(before, command_line.cut(flags)).with_output_types(pa.Table)
        | SequenceParts(flags.min_rating)
        | "LearnedFrom"
        >> beam.MapTuple(lambda part, users: (part, learned_from(users))).with_output_types(
            tuple[int, pa.Table]
        )
        | WriteSequenceShards(files.join(unfinished, "sequences"), flags.seed, item_clusters)
        | TrainRetriever(
            clusters=clusters,
            level=at_level,
            descriptions=tuple(descriptions),
            novelty_table=workspace.folder("novelty_table"),
            blocked=blocked_clusters(workspace),
            folder=workspace.folder("retrieval"),
            unfinished=unfinished,
            config=command_line.from_flags(RetrieverConfig, flags, PREFIX),
            k=flags.items_per_answer,
            hints=dataflow.hints(flags),
        )
    )
    return [
        log[TALLY],
        log[DEAD] | WriteDeadLetter(workspace.dead_letter("train_retrieval"), flags.output_shards),
        trained,
    ]


STAGE = Stage(
    name="train_retrieval",
    folder="retrieval",
    description=__doc__ or "",
    add_flags=add_flags,
    external={"interactions": [col.USER_ID, col.ITEM_ID, col.TIMESTAMP]},
    stages=("clusters", "transitions", "novelty_table"),
    level=lambda flags, workspace: workspace.level("novelty_table"),
    build=build,
    check_flags=check_flags,
    check=command_line.check_same_train_until,
    resumes=True,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
