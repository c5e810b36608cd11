"""Evaluates the novelty table and the retriever on held-out users, beside baselines."""

import argparse
import sys
from dataclasses import replace
from typing import Any

import apache_beam as beam
import pyarrow as pa

from models.evaluation.gates import GateThresholds
from models.evaluation.policies.policy_names import PRIOR, TABLE
from models.evaluation.simulation.simulation import SimulationConfig
from models.interests.alignment import PARTS
from pipelines.launch.compared_tables import (
    COMPARE_TABLE,
    check_named_tables,
    named_tables,
    previous_table,
    table_files,
)
from pipelines.launch.dataflow.worker_machines import Workers
from pipelines.launch.flag_types import whole_number
from pipelines.launch.flags import Flag, config_flags, from_flags
from pipelines.launch.shared_flags import PREVIOUS_WORKSPACE, SEED, WORKSPACE
from pipelines.launch.stage import Stage
from pipelines.launch.upstream import NoveltyTableInfo, RetrievalInfo, TransitionsInfo
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.clusters.read_clusters import (
    ReadItemClusters,
    read_cluster_embeddings,
    read_eligible,
)
from transforms.evaluation.held_out_transitions import engagements_by_item, users_by_pair
from transforms.evaluation.load_policies import PolicySources, WithPolicies
from transforms.evaluation.metrics import nan_to_none
from transforms.evaluation.score_items import TOP, ScoreItems, popular_items
from transforms.evaluation.score_policies import (
    ChoosePriorWeight,
    CoverPairs,
    Resamples,
    ScorePolicies,
)
from transforms.evaluation.simulate import Simulate, read_arms
from transforms.evaluation.write_report import METRICS, PAGE, WriteReport
from transforms.retrieval.align import Weights, read_alignment
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.tables.combiners import SumFn
from transforms.transitions.user_sequences import CountSequences, ReadSequences

# Prefixes of flags.
GATE, SIMULATION = "gate_", "simulation_"
# Policies to simulate beside the tables and the simulation's own.
_SIMULATED = ("popularity", "markov_1", "naive_bayes")


_TABLES, _REPORT = "other tables", "report"

FLAGS = (
    WORKSPACE,
    SEED,
    replace(PREVIOUS_WORKSPACE, group=_TABLES),
    replace(COMPARE_TABLE, group=_TABLES),
    Flag(
        "bootstrap_samples",
        "resamples of the test users for confidence intervals",
        type=whole_number(1),
        default=1000,
        group=_REPORT,
    ),
    Flag(
        "item_examples",
        "most test transitions, drawn by hash, on which the SavedModel is evaluated",
        type=whole_number(1),
        default=10_000,
        group=_REPORT,
    ),
    Flag(
        "min_users",
        "the report hides every number of users below this",
        type=whole_number(0),
        default=10,
        group=_REPORT,
    ),
    *config_flags(
        GateThresholds,
        GATE,
        {
            "match_rate": "least match rate of the fine-tuned model",
            "recall": "macro recall@5 of --pair_choice=aligned less that of the best policy that "
            "counts: the 95% interval must lie above this; -1 for no such gate",
            "popularity": "recall@5 of --pair_choice=aligned less that of popularity: the 95% "
            "interval must lie above this; -1 for no such gate",
            "coverage": "least share of the clusters that are the first answer to some pair that a "
            "user holds",
            "changed": "largest share of the pairs whose first answer differs from that in the "
            "table of --previous_workspace",
        },
        group="gates",
    ),
    *config_flags(
        SimulationConfig,
        SIMULATION,
        {
            "users": "most held-out users of the simulation; 0 for none",
            "days": "simulated days",
            "seeds": "replays with other random numbers, for the bands",
            "slots": "recommendations that a user gets each day",
            "exploring": "slots of them that explore",
            "outside": "relative probability that the user engages outside the recommended slots",
            "history": "latest engagements of a user that count",
        },
        group="simulation",
    ),
)


def check_flags(flags: argparse.Namespace) -> None:
    """Raise InputError for an impossible simulation, impossible gates, or missing tables."""
    from_flags(SimulationConfig, flags, SIMULATION)
    from_flags(GateThresholds, flags, GATE)
    table_files(flags)


def policy_sources(flags: argparse.Namespace, workspace: Workspace) -> PolicySources:
    """Return where the policies are."""
    table = NoveltyTableInfo.read(workspace)
    others = ((name, folder) for name, (folder, _) in named_tables(flags).items())
    return PolicySources(
        workspace.folder("clusters"),
        table.level,
        workspace.folder("transitions"),
        ((TABLE, workspace.folder("novelty_table")), *others),
        table.blocked,
    )


def run_metadata(
    flags: argparse.Namespace, workspace: Workspace, split_by: str, alignment: Weights
) -> dict[str, Any]:
    """Return what metrics.json says of the earlier stages."""
    stages = {stage: workspace.manifest(stage) for stage in STAGE.stages}
    shown = ("rows", "dead_letter", "seconds", "packages")
    history = files.read_parquet(
        workspace.folder("language_model", "history.parquet"), col.FINETUNE_HISTORY
    )
    return {
        "level": workspace.level("retrieval"),
        "split": split_by,
        "alignment": {
            name: dict(zip(PARTS, weights.tolist(), strict=True))
            for name, weights in alignment.items()
        },
        "seed": flags.seed,
        "bootstrap_samples": flags.bootstrap_samples,
        "finetuning": nan_to_none(history),
        "data": {
            "stages": {
                stage: {name: made[name] for name in shown} for stage, made in stages.items()
            }
        },
    }


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    """Wire the pipeline."""
    clusters, mined = workspace.folder("clusters"), TransitionsInfo.read(workspace)
    descriptions, split, size = mined.descriptions, mined.split, len(mined.descriptions)
    sources = policy_sources(flags, workspace)
    alignment = read_alignment(workspace.folder("retrieval"))
    top = min(TOP, RetrievalInfo.read(workspace).items_per_answer)
    resamples = Resamples(flags.bootstrap_samples, flags.seed)

    item_clusters = pipeline | "Clusters" >> ReadItemClusters(clusters, sources.level)
    item_clusters_side = beam.pvalue.AsSingleton(item_clusters)
    parts = pipeline | ReadSequences(workspace.folder("transitions"), item_clusters)
    sequences = parts | "Sequences" >> beam.Values().with_output_types(pa.Table)
    test = sequences | "TestUsers" >> beam.Map(split.users, "test").with_output_types(pa.Table)
    valid = sequences | "ValidUsers" >> beam.Map(split.users, "valid").with_output_types(pa.Table)
    eligible = (
        pipeline | "Listed" >> beam.Create([clusters]) | "Eligible" >> beam.Map(read_eligible)
    )
    popular = (
        sequences
        | "Engagements"
        >> beam.Map(
            lambda part, items: engagements_by_item(part, len(items[0]), split), item_clusters_side
        )
        | "AddEngagements" >> beam.CombineGlobally(SumFn())
        | "Popular"
        >> beam.Map(
            lambda counts, items, eligible: popular_items(counts, items[1], eligible, size, top),
            item_clusters_side,
            beam.pvalue.AsSingleton(eligible),
        )
    )
    pair_users = (
        sequences
        | "Pairs"
        >> beam.Map(lambda part, items: users_by_pair(part, items[1], size), item_clusters_side)
        | "AddPairs" >> beam.CombineGlobally(SumFn())
    )
    weight = valid | ChoosePriorWeight(sources, item_clusters, split.cut)
    train = (
        pipeline
        | "Train" >> beam.Create([None])
        | "TrainLabels" >> beam.ParDo(WithPolicies(sources, lambda policies, _: [policies.train]))
    )
    scored = test | ScorePolicies(sources, item_clusters, weight, split.cut, resamples)
    drawn = test | ScoreItems(
        sources=sources,
        weight=weight,
        saved_model=workspace.folder("retrieval", "saved_model"),
        alignment=alignment,
        item_clusters=item_clusters,
        popular=popular,
        size=size,
        cut=split.cut,
        count=flags.item_examples,
        resamples=resamples,
    )
    arms = (
        pipeline
        | "Arms" >> beam.Create([(clusters, sources.level)])
        | "ReadArms"
        >> beam.MapTuple(
            lambda folder, level: read_arms(folder, level, read_cluster_embeddings(folder, level))
        )
    )
    others = tuple(name for name, _ in sources.tables if name != TABLE)
    simulation = (
        (test, valid)
        | "HeldOut" >> beam.Flatten()
        | Simulate(
            config=from_flags(SimulationConfig, flags, SIMULATION),
            names=(TABLE, PRIOR, *others, *_SIMULATED),
            policies=lambda weight: sources.load().by_name(weight),
            weight=weight,
            item_clusters=item_clusters,
            arms=arms,
            blocked=sources.blocked,
        )
    )
    report = {
        **scored,
        **drawn,
        "wins": pipeline | CoverPairs(sources, size, weight),
        "weight": weight,
        "train": train,
        "popular": popular,
        "pair_users": pair_users,
        "simulation": simulation,
    } | WriteReport(
        folder=workspace.folder("report"),
        descriptions=descriptions,
        clusters=clusters,
        table=workspace.folder("novelty_table"),
        previous=previous_table(flags, workspace),
        thresholds=from_flags(GateThresholds, flags, GATE),
        run_metadata={
            **run_metadata(flags, workspace, mined.split_by, alignment),
            "clusters": size,
        },
        min_users=flags.min_users,
    )
    return [parts | CountSequences(), report]


STAGE = Stage(
    name="evaluate",
    folder="report",
    description=__doc__ or "",
    own_flags=FLAGS,
    outputs=(METRICS, PAGE),
    stages=("clusters", "transitions", "language_model", "novelty_table", "retrieval"),
    extra_files=lambda flags, _: table_files(flags),
    check_flags=check_flags,
    check=check_named_tables,
    level=lambda _, workspace: workspace.level("retrieval"),
    build=build,
    workers=Workers("n1-standard-8", models=True),
    threads=True,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
