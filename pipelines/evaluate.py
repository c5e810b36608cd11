"""Evaluates the novelty table and the retriever on held-out users, beside baselines."""

import argparse
import dataclasses
import logging
import re
import sys
from typing import Any

import apache_beam as beam
import pyarrow as pa

from models.evaluation.gates import GateThresholds
from pipelines import flags as command_line
from pipelines.build_clusters import previous_files
from pipelines.stage import Stage
from pipelines.workspace import Workspace, digest
from transforms import files
from transforms import schemas as col
from transforms.catalogue import ReadItemClusters, read_descriptions
from transforms.errors import InputError, as_input_error
from transforms.evaluation import AddUp, ChoosePriorWeight, CoverPairs, Resamples, ScorePolicies
from transforms.evaluation_metrics import finite
from transforms.held_out import HeldOut, engagements_by_item, users_by_pair
from transforms.interactions import ReadInteractions
from transforms.item_evaluation import ScoreItems, popular_items
from transforms.manifest import Tally, read_manifest
from transforms.novelty_table import resolve_blocked
from transforms.policies import (
    COUNT_POLICIES,
    PRIOR,
    RETRIEVER,
    TABLE,
    PolicySources,
    WithPolicies,
)
from transforms.sequences import UserSequences
from transforms.validate import DEAD, TALLY
from transforms.write_report import PreviousTable, WriteReport, read_catalogue
from transforms.write_tables import WriteDeadLetter

log = logging.getLogger("interest-explorer")

GATE = "gate_"  # begins the names of the gates' flags
# Flags that say which interactions there are: the same as for the transitions.
_OF_LOG = ("since", "until", "row_restriction")
# Stages whose data quality, times and versions the report tells.
_TOLD = ("clusters", "transitions", "language_model", "novelty_table", "retrieval")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this pipeline."""
    command_line.add_workspace(parser)
    command_line.add_shards(parser)
    command_line.add_log(parser)
    parser.add_argument(
        "--table",
        type=named_folder,
        action="append",
        default=[],
        help="another novelty table of the same clusters to compare, as name=folder, where folder "
        "is a workspace or the novelty_table in it; may be given several times (default: none)",
    )
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
        help="test transitions, drawn by hash, on which the retriever is asked for the item, at "
        "most (default: 2000)",
    )
    parser.add_argument(
        "--min_users",
        type=command_line.whole_number(0),
        default=10,
        help="the report tells no number of users below this (default: 10)",
    )
    command_line.add_previous(parser)
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
            "of --previous, at most",
        },
    )
    parser.add_argument(
        f"--{GATE}beat_counts",
        action="store_true",
        help="gate: recall@1 must also be at least that of the best baseline that only counts",
    )


def named_folder(text: str) -> str:
    """Return the type of a flag: name=folder, for a policy's name that is not taken."""
    name, _, folder = text.partition("=")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or not folder:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not name=folder, such as llm_untuned=build/untuned"
        )
    if name in (TABLE, PRIOR, RETRIEVER, *COUNT_POLICIES):
        raise argparse.ArgumentTypeError(f"{name!r} is the name of another policy")
    return text


def tables(flags: argparse.Namespace) -> dict[str, tuple[str, dict[str, Any]]]:
    """Find the tables that --table names: name -> folder and manifest.

    Raises
    ------
    InputError
        If one is not complete, or a name is given twice.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for text in flags.table:
        name, _, given = text.partition("=")
        if name in found:
            raise InputError(f"--table={text}: there are two tables of the name {name}")
        for folder in (files.join(given, "novelty_table"), given):
            manifest = read_manifest(folder)
            if manifest is not None and manifest["pipeline"] == "build_novelty_table":
                found[name] = folder, manifest
                break
        else:
            raise InputError(
                f"--table={text}: {given} is neither a complete novelty_table nor a workspace with "
                "one"
            )
    return found


def model_files(flags: argparse.Namespace) -> dict[str, list[str]]:
    """Return the files of the other tables, and of the one before."""
    found = {f"table {name}": _files(*table) for name, table in tables(flags).items()}
    if flags.previous is not None:
        earlier = Workspace(flags.previous)
        with as_input_error("--previous: "):
            manifest = earlier.manifest("novelty_table")
        found["previous"] = previous_files(flags)
        found["previous table"] = _files(earlier.folder("novelty_table"), manifest)
    return found


def _files(folder: str, manifest: dict[str, Any]) -> list[str]:
    return [files.join(folder, file["path"]) for file in manifest["files"]]


def previous_table(flags: argparse.Namespace, workspace: Workspace) -> PreviousTable | None:
    """Return the table that --previous names, and how its clusters became ours."""
    if flags.previous is None:
        return None
    earlier, built = Workspace(flags.previous), workspace.manifest("clusters")
    level = earlier.level("novelty_table")
    # The mapping is of the finest clusters, from those that ours began with.
    began = built["inputs"].get("previous") == digest(files.fingerprints(previous_files(flags)))
    finest = len(built["flags"]["clusters"]) - 1
    return PreviousTable(
        clusters=earlier.folder("clusters"),
        level=level,
        table=earlier.folder("novelty_table"),
        mapping=workspace.folder("clusters", "mapping.parquet")
        if began and level == workspace.level("retrieval") == finest
        else None,
    )


def thresholds(flags: argparse.Namespace) -> GateThresholds:
    """Return the thresholds of the gates."""
    return GateThresholds(
        **{
            field.name: getattr(flags, GATE + field.name)
            for field in dataclasses.fields(GateThresholds)
        }
    )


def check(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Check that log and tables are of the clusters and transitions of the workspace."""
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
    clusters, level = workspace.fingerprint("clusters"), workspace.level("retrieval")
    for name, (folder, manifest) in tables(flags).items():
        if (manifest["inputs"]["clusters"], manifest["level"]) != (clusters, level):
            raise InputError(
                f"--table {name}: {folder} was built from other clusters or another level than "
                f"{workspace.root} has; only tables of the same clusters can be compared"
            )


def policy_sources(flags: argparse.Namespace, workspace: Workspace) -> PolicySources:
    """Return where the policies are."""
    clusters, level = workspace.folder("clusters"), workspace.level("retrieval")
    blocked = workspace.manifest("novelty_table")["flags"]["blocked_clusters"]
    others = ((name, folder) for name, (folder, _) in tables(flags).items())
    return PolicySources(
        clusters,
        level,
        workspace.folder("transitions"),
        ((TABLE, workspace.folder("novelty_table")), *others),
        tuple(resolve_blocked(blocked, read_descriptions(clusters, level))),
    )


def facts(flags: argparse.Namespace, workspace: Workspace) -> dict[str, Any]:
    """Return what metrics.json says of the stages before."""
    found = {stage: read_manifest(workspace.folder(stage)) for stage in _TOLD}
    stages = {stage: manifest for stage, manifest in found.items() if manifest is not None}
    told = ("rows", "dead_letter", "seconds", "packages")
    history = files.read_parquet(
        workspace.folder("language_model", "history.parquet"), col.FINETUNE_HISTORY
    )
    return {
        "level": workspace.level("retrieval"),
        "split": stages["transitions"]["flags"]["split"],
        "seed": flags.seed,
        "bootstrap_samples": flags.bootstrap_samples,
        "finetuning": finite(history),
        "simulation": None,
        "data": {
            "stages": {
                stage: {name: manifest[name] for name in told} for stage, manifest in stages.items()
            }
        },
    }


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[Tally]]:
    """Wire the pipeline."""
    clusters = workspace.folder("clusters")
    descriptions = read_descriptions(clusters, workspace.level("retrieval"))
    size = len(descriptions)
    # As mine_transitions decided, so that nobody is asked for what was learned from.
    mined = argparse.Namespace(**workspace.manifest("transitions")["flags"])
    held_out = HeldOut(mined.valid_share, mined.test_share, mined.seed, command_line.cut(mined))
    sources = policy_sources(flags, workspace)
    resamples = Resamples(flags.bootstrap_samples, flags.seed)

    item_clusters = pipeline | "Clusters" >> ReadItemClusters(clusters, sources.level)
    catalogue = beam.pvalue.AsSingleton(item_clusters)
    interactions = pipeline | ReadInteractions(
        command_line.source(flags, "interactions"), item_clusters
    )
    sequences = interactions.usable | UserSequences(mined.min_rating)
    test = sequences | "TestUsers" >> beam.Map(held_out.users, "test").with_output_types(pa.Table)
    listed = pipeline | "Listed" >> beam.Create([clusters]) | beam.Map(read_catalogue)
    popular = (
        sequences
        | "Engagements"
        >> beam.Map(
            lambda part, items: engagements_by_item(part, len(items[0]), held_out), catalogue
        )
        | "AddEngagements" >> beam.CombineGlobally(AddUp())
        | "Popular"
        >> beam.Map(
            lambda counts, items, listed: popular_items(counts, items[1], listed[1], size),
            catalogue,
            beam.pvalue.AsSingleton(listed),
        )
    )
    pair_users = (
        sequences
        | "Pairs" >> beam.Map(lambda part, items: users_by_pair(part, items[1], size), catalogue)
        | "AddPairs" >> beam.CombineGlobally(AddUp())
    )
    weight = pipeline | ChoosePriorWeight(sources)
    train = (
        pipeline
        | "Train" >> beam.Create([None])
        | "TrainLabels" >> beam.ParDo(WithPolicies(sources, lambda policies, _: [policies.train]))
    )
    scored = test | ScorePolicies(sources, item_clusters, weight, held_out.cut, resamples)
    items = test | ScoreItems(
        saved_model=workspace.folder("retrieval", "saved_model"),
        catalogue=item_clusters,
        popular=popular,
        size=size,
        cut=held_out.cut,
        count=flags.item_examples,
        resamples=resamples,
    )
    report = {
        **scored,
        "wins": pipeline | CoverPairs(sources, size, weight),
        "items": items,
        "weight": weight,
        "train": train,
        "popular": popular,
        "pair_users": pair_users,
    } | WriteReport(
        folder=workspace.folder("report"),
        descriptions=tuple(descriptions),
        clusters=clusters,
        table=workspace.folder("novelty_table"),
        previous=previous_table(flags, workspace),
        thresholds=thresholds(flags),
        facts={**facts(flags, workspace), "clusters": size},
        min_users=flags.min_users,
    )
    return [
        interactions[TALLY],
        interactions[DEAD] | WriteDeadLetter(workspace.dead_letter("evaluate"), flags.shards),
        report,
    ]


STAGE = Stage(
    name="evaluate",
    folder="report",
    description=__doc__ or "",
    add_flags=add_flags,
    external={"interactions": [col.USER_ID, col.ITEM_ID, col.TIMESTAMP]},
    stages=("clusters", "transitions", "novelty_table", "retrieval"),
    level=lambda flags, workspace: workspace.level("retrieval"),
    build=build,
    model_files=model_files,
    check=check,
    threads=True,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
