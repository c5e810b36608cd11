"""Evaluates the novelty table and the retriever on held-out users, beside baselines."""

import argparse
import logging
import sys
from typing import Any

import apache_beam as beam
import pyarrow as pa

from models.evaluation.gates import GateThresholds
from models.evaluation.policies.policy_names import PRIOR, TABLE
from models.evaluation.simulation.simulation import SimulationConfig
from pipelines.launch import flags as command_line
from pipelines.launch.compared_tables import add_flags as add_table_flags
from pipelines.launch.compared_tables import (
    check_named_tables,
    named_tables,
    previous_table,
    table_files,
)
from pipelines.launch.stage import Stage
from pipelines.launch.upstream import blocked_clusters, held_out
from pipelines.launch.workspace import Workspace, digest
from transforms import schemas as col
from transforms.clusters.read_clusters import (
    ReadItemClusters,
    read_cluster_embeddings,
    read_descriptions,
    read_eligible,
)
from transforms.errors import InputError
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
from transforms.evaluation.write_report import WriteReport
from transforms.inputs.interactions import ReadInteractions
from transforms.inputs.validate import DEAD, TALLY
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.tables.combiners import SumFn
from transforms.tables.write_tables import WriteDeadLetter
from transforms.transitions.user_sequences import UserSequences

log = logging.getLogger("interest-explorer")

# Flags that say which interactions there are: the same as for the transitions.
_OF_LOG = ("since", "until", "row_restriction")
# What the names of the flags of a subject begin with.
GATE, SIMULATION = "gate_", "simulation_"
# Policies that are simulated, beside the tables and those that the simulation has itself.
_SIMULATED = ("popularity", "markov_1", "naive_bayes")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this pipeline."""
    command_line.add_workspace(parser)
    command_line.add_shards(parser)
    command_line.add_log(parser)
    add_table_flags(parser)
    parser.add_argument(
        "--bootstrap_samples",
        type=command_line.whole_number(1),
        default=1000,
        help="resamples of the test users that confidence intervals are made of (default: 1000)",
    )
    parser.add_argument(
        "--item_examples",
        type=command_line.whole_number(1),
        default=2000,
        help="test transitions, drawn by hash, on which the retriever is asked, at most "
        "(default: 2000)",
    )
    parser.add_argument(
        "--min_users",
        type=command_line.whole_number(0),
        default=10,
        help="the report tells no number of users below this (default: 10)",
    )
    command_line.add_fields(
        parser,
        GateThresholds,
        GATE,
        {
            "match_rate": "gate: match rate of the fine-tuned model, at least",
            "recall_at_1": "gate: recall@1 of the table on test users, at least",
            "coverage": "gate: share of the clusters that are the first answer of some pair, at "
            "least",
            "changed": "gate: share of the pairs whose first answer is another than in the table "
            "of --previous_workspace, at most",
        },
    )
    parser.add_argument(
        f"--{GATE}beat_counts",
        action="store_true",
        help="gate: recall@1 must also be at least that of the best baseline that only counts",
    )
    command_line.add_fields(
        parser,
        SimulationConfig,
        SIMULATION,
        {
            "users": "held-out users of the simulation, at most; 0 for none",
            "days": "days that are simulated",
            "seeds": "replays with other random numbers, for the bands",
            "slots": "recommendations a user gets each day",
            "exploring": "those of them that explore",
            "outside": "weight of anything but a recommendation, all clusters together being 1",
            "history": "latest engagements of a user that count",
        },
    )


def check_flags(flags: argparse.Namespace) -> None:
    """Raise InputError for a simulation or gates that can't be."""
    command_line.from_flags(SimulationConfig, flags, SIMULATION)
    command_line.from_flags(GateThresholds, flags, GATE)


def check_log(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError for another log than the one that the transitions were mined from."""
    mined = workspace.manifest("transitions")
    for name in _OF_LOG:
        given, then = getattr(flags, name), mined["flags"][name]
        if given != then:
            raise InputError(
                f"--{name} is {given or 'not given'}, but {workspace.folder('transitions')} was "
                f"mined with {then or 'none'}: give the same, since its test users are asked for"
            )
    if digest(command_line.source(flags, "interactions").fingerprint()) != mined["inputs"].get(
        "interactions"
    ):
        log.warning(
            "evaluate: --interactions changed since the transitions were mined; what it has of "
            "test users now is evaluated"
        )


def check(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError for a log or tables that do not fit the workspace."""
    check_log(flags, workspace)
    check_named_tables(flags, workspace)


def policy_sources(flags: argparse.Namespace, workspace: Workspace) -> PolicySources:
    """Return where the policies are."""
    clusters, level = workspace.folder("clusters"), workspace.level("retrieval")
    others = ((name, folder) for name, (folder, _) in named_tables(flags).items())
    return PolicySources(
        clusters,
        level,
        workspace.folder("transitions"),
        ((TABLE, workspace.folder("novelty_table")), *others),
        blocked_clusters(workspace),
    )


def run_metadata(flags: argparse.Namespace, workspace: Workspace) -> dict[str, Any]:
    """Return what metrics.json says of the stages before."""
    stages = {stage: workspace.manifest(stage) for stage in STAGE.stages}
    told = ("rows", "dead_letter", "seconds", "packages")
    history = files.read_parquet(
        workspace.folder("language_model", "history.parquet"), col.FINETUNE_HISTORY
    )
    return {
        "level": workspace.level("retrieval"),
        "split": stages["transitions"]["flags"]["split_by"],
        "seed": flags.seed,
        "bootstrap_samples": flags.bootstrap_samples,
        "finetuning": nan_to_none(history),
        "data": {
            "stages": {
                stage: {name: manifest[name] for name in told} for stage, manifest in stages.items()
            }
        },
    }


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    """Wire the pipeline."""
    clusters = workspace.folder("clusters")
    descriptions = read_descriptions(clusters, workspace.level("retrieval"))
    size = len(descriptions)
    kept_apart = held_out(workspace)
    sources = policy_sources(flags, workspace)
    top = min(TOP, workspace.manifest("retrieval")["flags"]["items_per_answer"])
    resamples = Resamples(flags.bootstrap_samples, flags.seed)

    item_clusters = pipeline | "Clusters" >> ReadItemClusters(clusters, sources.level)
    catalogue = beam.pvalue.AsSingleton(item_clusters)
    interactions = pipeline | ReadInteractions(
        command_line.source(flags, "interactions"), item_clusters
    )
    sequences = interactions.usable | UserSequences(
        workspace.manifest("transitions")["flags"]["min_rating"]
    )
    test = sequences | "TestUsers" >> beam.Map(kept_apart.users, "test").with_output_types(pa.Table)
    valid = sequences | "ValidUsers" >> beam.Map(kept_apart.users, "valid").with_output_types(
        pa.Table
    )
    eligible = (
        pipeline | "Listed" >> beam.Create([clusters]) | "Eligible" >> beam.Map(read_eligible)
    )
    popular = (
        sequences
        | "Engagements"
        >> beam.Map(
            lambda part, items: engagements_by_item(part, len(items[0]), kept_apart), catalogue
        )
        | "AddEngagements" >> beam.CombineGlobally(SumFn())
        | "Popular"
        >> beam.Map(
            lambda counts, items, eligible: popular_items(counts, items[1], eligible, size, top),
            catalogue,
            beam.pvalue.AsSingleton(eligible),
        )
    )
    pair_users = (
        sequences
        | "Pairs" >> beam.Map(lambda part, items: users_by_pair(part, items[1], size), catalogue)
        | "AddPairs" >> beam.CombineGlobally(SumFn())
    )
    weight = valid | ChoosePriorWeight(sources, item_clusters, kept_apart.cut)
    train = (
        pipeline
        | "Train" >> beam.Create([None])
        | "TrainLabels" >> beam.ParDo(WithPolicies(sources, lambda policies, _: [policies.train]))
    )
    scored = test | ScorePolicies(sources, item_clusters, weight, kept_apart.cut, resamples)
    drawn = test | ScoreItems(
        sources=sources,
        weight=weight,
        saved_model=workspace.folder("retrieval", "saved_model"),
        catalogue=item_clusters,
        popular=popular,
        size=size,
        cut=kept_apart.cut,
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
            config=command_line.from_flags(SimulationConfig, flags, SIMULATION),
            names=(TABLE, PRIOR, *others, *_SIMULATED),
            policies=lambda weight: sources.load().by_name(weight),
            weight=weight,
            catalogue=item_clusters,
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
        descriptions=tuple(descriptions),
        clusters=clusters,
        table=workspace.folder("novelty_table"),
        previous=previous_table(flags, workspace),
        thresholds=command_line.from_flags(GateThresholds, flags, GATE),
        run_metadata={**run_metadata(flags, workspace), "clusters": size},
        min_users=flags.min_users,
    )
    return [
        interactions[TALLY],
        interactions[DEAD]
        | WriteDeadLetter(workspace.dead_letter("evaluate"), flags.output_shards),
        report,
    ]


STAGE = Stage(
    name="evaluate",
    folder="report",
    description=__doc__ or "",
    add_flags=add_flags,
    external={"interactions": [col.USER_ID, col.ITEM_ID, col.TIMESTAMP]},
    stages=("clusters", "transitions", "language_model", "novelty_table", "retrieval"),
    level=lambda flags, workspace: workspace.level("retrieval"),
    build=build,
    model_files=table_files,
    check_flags=check_flags,
    check=check,
    threads=True,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
