"""Trains the retriever on the users' sequences and packs it with the novelty table.

With --refresh it does not train: it packs the weights of the last training with today's items,
their popularity and the novelty table.

It learns from no interaction that evaluate tests on: none of valid and test users or, where the
clusters were built with --train_until, none after that time. The valid users decide how much the
novelty table, the retriever and popularity count in the choice of an interest.
"""

import argparse
import sys

import apache_beam as beam
import pyarrow as pa

from models.retrieval.retriever_config import RetrieverConfig
from pipelines.launch.dataflow.worker_machines import Workers, hints, worker_flags
from pipelines.launch.flag_types import whole_number
from pipelines.launch.flags import Flag, config_flags, from_flags
from pipelines.launch.shared_flags import SEED, WORKSPACE
from pipelines.launch.stage import Stage
from pipelines.launch.upstream import ClustersInfo, NoveltyTableInfo, TransitionsInfo
from pipelines.launch.workspace import Workspace
from transforms.clusters.read_clusters import ReadItemClusters
from transforms.errors import InputError
from transforms.retrieval.align import ALIGNMENT, case_count
from transforms.retrieval.retriever_weights import HISTORY, WEIGHTS
from transforms.retrieval.train_retriever import SAVED_MODEL_FILES, TrainRetriever
from transforms.retrieval.write_sequence_shards import WriteSequenceShards
from transforms.storage import files
from transforms.storage.manifest import RowCounts, read_manifest
from transforms.transitions.held_out_cases import DrawCases
from transforms.transitions.user_sequences import CountSequences, ReadSequences

PREFIX, _GROUP = "retriever_", "retriever"
FLAGS = (
    WORKSPACE,
    SEED,
    Flag(
        "items_per_answer",
        "most items that the SavedModel returns for a history",
        type=whole_number(1),
        default=20,
        group=_GROUP,
    ),
    Flag(
        "candidates",
        "most clusters that the novelty table proposes for a user to --pair_choice=aligned",
        type=whole_number(1),
        default=100,
        group=_GROUP,
    ),
    Flag(
        "refresh",
        "take the retriever's weights of the last training in this workspace, for today's items, "
        "popularity and novelty table",
        switch=True,
        group=_GROUP,
    ),
    *config_flags(
        RetrieverConfig,
        PREFIX,
        {
            "dimension": "width of the transformer and of the item embeddings",
            "layers": "layers of the transformer",
            "heads": "attention heads",
            "max_length": "latest items of a history that the transformer sees",
            "dropout": "share of activations dropped in training",
            "item_dropout": "share of items whose own embedding is left out of a training step",
            "learning_rate": "learning rate of Adam",
            "batch_size": "rows of a step, each with --retriever_max_length positions of several "
            "users",
            "negatives": "most items that a step scores for each position: all, or this many drawn",
            "epochs": "most passes over the data",
            "patience": "passes without a better NDCG@10 before it stops",
        },
        group=_GROUP,
    ),
    *worker_flags("train"),
)


def check_flags(flags: argparse.Namespace) -> None:
    """Raise InputError for settings that the retriever refuses."""
    from_flags(RetrieverConfig, flags, PREFIX)


def kept(flags: argparse.Namespace, workspace: Workspace) -> tuple[str, ...]:
    """Return the files of the last training that --refresh starts from, also if it was interrupted.

    Raises InputError if they are missing, or a complete stage has altered files.
    """
    if not flags.refresh:
        return ()
    if read_manifest(workspace.folder("retrieval")) is not None:
        workspace.verify("retrieval")
    for path in (workspace.folder("retrieval", name) for name in (HISTORY, WEIGHTS)):
        if not files.exists(path):
            raise InputError(f"--refresh: there is no {path}; train without --refresh first")
    return HISTORY, WEIGHTS


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    """Wire the pipeline."""
    clusters, table = workspace.folder("clusters"), NoveltyTableInfo.read(workspace)
    split = TransitionsInfo.read(workspace).split
    unfinished = workspace.unfinished("train_retrieval")
    item_clusters = pipeline | "Clusters" >> ReadItemClusters(clusters, table.level)
    sequences = pipeline | ReadSequences(workspace.folder("transitions"), item_clusters)
    cases = (
        sequences
        | "ValidUsers"
        >> beam.MapTuple(lambda _, users: split.users(users, "valid")).with_output_types(pa.Table)
        | DrawCases(item_clusters, split.cut, flags.seed, case_count(len(table.descriptions)))
    )
    shards = (
        sequences
        | "LearnedFrom"
        >> beam.MapTuple(lambda part, users: (part, split.learned_from(users))).with_output_types(
            tuple[int, pa.Table]
        )
        | WriteSequenceShards(files.join(unfinished, "sequences"), flags.seed, item_clusters)
    )
    trained = (shards, cases) | TrainRetriever(
        clusters=clusters,
        level=table.level,
        descriptions=table.descriptions,
        novelty_table=workspace.folder("novelty_table"),
        blocked=table.blocked,
        folder=workspace.folder("retrieval"),
        unfinished=unfinished,
        config=from_flags(RetrieverConfig, flags, PREFIX),
        split=split,
        k=flags.items_per_answer,
        candidates=flags.candidates,
        refresh=flags.refresh,
        hints=hints(flags),
    )
    return [sequences | CountSequences(), trained]


STAGE = Stage(
    name="train_retrieval",
    folder="retrieval",
    description=__doc__ or "",
    own_flags=FLAGS,
    outputs=(HISTORY, WEIGHTS, ALIGNMENT, *(f"saved_model/{name}" for name in SAVED_MODEL_FILES)),
    stages=("clusters", "transitions", "novelty_table"),
    taken_over=lambda workspace: {"train_until": ClustersInfo.read(workspace).train_until},
    kept=kept,
    check_flags=check_flags,
    level=lambda _, workspace: workspace.level("novelty_table"),
    build=build,
    workers=Workers("n1-highmem-8", models=True),  # all histories on one
    resumes=True,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
