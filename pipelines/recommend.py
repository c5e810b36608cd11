"""Recommends items of a novel interest to every user."""

import argparse
import sys

import apache_beam as beam

from pipelines.launch import flags as command_line
from pipelines.launch.check_gates import add_ignore_gates, check_gates
from pipelines.launch.stage import Stage
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.clusters.read_clusters import ReadItemClusters
from transforms.inputs.interactions import ReadInteractions
from transforms.inputs.validate import DEAD, TALLY
from transforms.retrieval.recommend import PAIR_CHOICES, Recommend
from transforms.storage.manifest import RowCounts
from transforms.tables.shuffle import ShardBy
from transforms.tables.write_tables import WriteDeadLetter, WriteShards
from transforms.transitions.user_sequences import UserSequences


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this pipeline."""
    command_line.add_workspace(parser)
    command_line.add_shards(parser)
    command_line.add_interactions(parser)
    parser.add_argument(
        "--pair_choice",
        choices=tuple(PAIR_CHOICES),
        default="recent",
        help="which two known interests of a user are asked about: the most recent two, two "
        "sampled by recency, anew for each --seed, such as the day's number, or all of the eight "
        "most recent, their answers pooled (default: recent)",
    )
    add_ignore_gates(parser)


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    """Wire the pipeline."""
    folder, shards = workspace.folder("recommendations"), flags.output_shards
    item_clusters = pipeline | "Clusters" >> ReadItemClusters(
        workspace.folder("clusters"), workspace.level("retrieval")
    )
    log = pipeline | ReadInteractions(command_line.source(flags, "interactions"), item_clusters)
    recommended, figures = (
        log.usable
        | UserSequences(flags.min_rating)
        | Recommend(
            saved_model=workspace.folder("retrieval", "saved_model"),
            catalogue=item_clusters,
            pair_choice=flags.pair_choice,
            seed=flags.seed,
        )
    )
    return [
        log[TALLY],
        log[DEAD] | WriteDeadLetter(workspace.dead_letter("recommend"), shards),
        figures,
        recommended
        | "Shards" >> ShardBy(col.USER_ID, shards, col.RECOMMENDATIONS, (col.USER_ID,))
        | WriteShards(folder, "", shards),
    ]


STAGE = Stage(
    name="recommend",
    folder="recommendations",
    description=__doc__ or "",
    add_flags=add_flags,
    external={"interactions": [col.USER_ID, col.ITEM_ID, col.TIMESTAMP]},
    stages=("clusters", "retrieval"),
    level=lambda flags, workspace: workspace.level("retrieval"),
    build=build,
    check=check_gates,
    threads=True,
    table=col.RECOMMENDATIONS,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
