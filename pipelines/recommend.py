"""Recommends items of a novel interest to every user."""

import argparse
import sys
import time

import apache_beam as beam
import pyarrow as pa

from pipelines import flags as command_line
from pipelines.stage import Stage, Workspace
from transforms import schemas as col
from transforms.catalogue import ReadItemClusters
from transforms.manifest import Tally
from transforms.read_tables import ReadTables, find_files
from transforms.recommend import Explore
from transforms.retrieval import user_sequences
from transforms.validate import DEAD, TALLY, ValidateInteractions, positive
from transforms.write_tables import ShardBy, WriteDeadLetter, WriteShards, map_shards


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this pipeline."""
    command_line.add_workspace(parser)
    command_line.add_shards(parser)
    command_line.add_interactions(parser)


def level(flags: argparse.Namespace, workspace: Workspace) -> int:
    """Return the level of the retriever's clusters."""
    return workspace.manifest("retrieval")["level"]


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[Tally]]:
    """Wire the pipeline."""
    folder, shards, min_rating = workspace.folder("recommendations"), flags.shards, flags.min_rating
    item_clusters = pipeline | "Clusters" >> ReadItemClusters(
        workspace.folder("clusters"), level(flags, workspace)
    )
    checked = (
        pipeline
        | "Read" >> ReadTables(tuple(find_files(flags.interactions, "interactions")))
        | "Validate"
        >> ValidateInteractions(beam.pvalue.AsSingleton(item_clusters), int(time.time() * 1e6))
    )
    recommended = (
        checked.usable
        | "Positive"
        >> beam.Map(lambda table: positive(table, min_rating)).with_output_types(pa.Table)
        | "ByUser"
        >> ShardBy(col.USER_ID, shards, col.INTERACTIONS, (col.USER_ID, col.TIMESTAMP, col.ITEM_ID))
        | "Histories" >> map_shards(user_sequences)
        | Explore(workspace.folder("retrieval", "saved_model"))
    )
    return [
        checked[TALLY],
        checked[DEAD] | WriteDeadLetter(workspace.dead_letter("recommend"), shards),
        recommended | WriteShards(folder, "", shards),
    ]


STAGE = Stage(
    name="recommend",
    folder="recommendations",
    description=__doc__ or "",
    add_flags=add_flags,
    external={"interactions": [col.USER_ID, col.ITEM_ID, col.TIMESTAMP]},
    stages=("clusters", "retrieval"),
    level=level,
    build=build,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
