"""Recommends items of a novel interest to every user."""

import argparse
import sys
from dataclasses import replace

import apache_beam as beam
import pyarrow as pa

from pipelines.launch.check_gates import check_gates
from pipelines.launch.dataflow.worker_machines import Workers
from pipelines.launch.flags import Flag
from pipelines.launch.shared_flags import (
    IGNORE_GATES,
    LOG,
    MAX_DEAD_SHARE,
    OUTPUT_SHARDS,
    SEED,
    WORKSPACE,
    log_columns,
    source,
)
from pipelines.launch.stage import Stage
from pipelines.launch.upstream import ClustersInfo, TransitionsInfo
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.clusters.read_clusters import ReadItemClusters
from transforms.errors import InputError
from transforms.inputs.check_dead_share import CheckDeadShare
from transforms.inputs.interactions import ReadInteractions
from transforms.inputs.validate import DEAD, ROW_COUNTS
from transforms.retrieval.recommend import PAIR_CHOICES, Recommend
from transforms.storage.manifest import RowCounts
from transforms.storage.stage_files import SHARDS
from transforms.tables.shuffle import ShardBy
from transforms.tables.write_tables import WriteDeadLetter, WriteShards
from transforms.transitions.user_sequences import CountSequences, ReadSequences, SequenceParts

_LOG, *_ABOUT_LOG = LOG
FLAGS = (
    WORKSPACE,
    SEED,
    OUTPUT_SHARDS,
    replace(
        _LOG,
        help=f"a newer log than that of mine_transitions: {_LOG.help}",
        required=False,
        no_default="the log of mine_transitions",
    ),
    *_ABOUT_LOG,
    MAX_DEAD_SHARE,
    Flag(
        "pair_choice",
        "how the new interest is chosen. aligned: the novelty table proposes for the eight most "
        "recent interests, and the retriever and popularity have a say; recent: the table's answer "
        "for the two most recent; sampled: for two, drawn by recency, another draw for each "
        "--seed, such as the day's number; pooled: for all pairs of the eight, added up",
        choices=tuple(PAIR_CHOICES),
        default="aligned",
    ),
    IGNORE_GATES,
)


def check_flags(flags: argparse.Namespace) -> None:
    """Raise InputError for flags about a log which is not given."""
    for flag in _ABOUT_LOG:
        if not flags.interactions and getattr(flags, flag.name) != flag.default:
            raise InputError(f"--{flag.name} needs --interactions, the log that it is about")


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    """Wire the pipeline."""
    folder, shards = workspace.folder("recommendations"), flags.output_shards
    item_clusters = pipeline | "Clusters" >> ReadItemClusters(
        workspace.folder("clusters"), workspace.level("retrieval")
    )
    if not flags.interactions:
        parts = pipeline | ReadSequences(workspace.folder("transitions"), item_clusters)
        counts = [parts | CountSequences()]
    else:
        min_rating = ClustersInfo.read(workspace).min_rating
        log = pipeline | ReadInteractions(
            source(flags, "interactions"), item_clusters, min_rating is not None
        )
        # In the order that the models learned from, whatever --seed draws here.
        seed = TransitionsInfo.read(workspace).split.seed
        parts = log.usable | SequenceParts(min_rating, seed, item_clusters)
        dead = log[DEAD] | WriteDeadLetter(workspace.dead_letter("recommend"), shards)
        checked = log[ROW_COUNTS] | CheckDeadShare(
            "interactions", flags.max_dead_share, log[DEAD], dead
        )
        counts = [log[ROW_COUNTS], dead, checked]
    recommended, figures = (
        parts
        | "Sequences" >> beam.Values().with_output_types(pa.Table)
        | Recommend(
            saved_model=workspace.folder("retrieval", "saved_model"),
            item_clusters=item_clusters,
            pair_choice=flags.pair_choice,
            seed=flags.seed,
        )
    )
    written = (
        recommended
        | "Shards" >> ShardBy(col.USER_ID, shards, col.RECOMMENDATIONS, (col.USER_ID,))
        | WriteShards(folder, "", shards)
    )
    return [*counts, figures, written]


STAGE = Stage(
    name="recommend",
    folder="recommendations",
    description=__doc__ or "",
    own_flags=FLAGS,
    outputs=(f"{SHARDS}.parquet",),
    tables=lambda flags, workspace: (
        {"interactions": log_columns(ClustersInfo.read(workspace).min_rating)}
        if flags.interactions
        else {}
    ),
    stages=("clusters", "retrieval"),
    optional_stages=lambda flags: () if flags.interactions else ("transitions",),
    taken_over=lambda workspace: {"min_rating": ClustersInfo.read(workspace).min_rating},
    check_flags=check_flags,
    check=check_gates,
    check_release=check_gates,
    level=lambda _, workspace: workspace.level("retrieval"),
    build=build,
    workers=Workers("n1-standard-8", models=True),
    threads=True,
    output_schema=col.RECOMMENDATIONS,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
