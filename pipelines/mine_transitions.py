"""Mines transitions between interest clusters and writes the examples the LLM is tuned on."""

import argparse
import sys

import apache_beam as beam
import pyarrow as pa

from models.language.prompt import DEFAULT_TEMPLATE, PromptTemplate
from pipelines.launch.flag_types import microseconds, number, whole_number
from pipelines.launch.flags import Flag
from pipelines.launch.shared_flags import (
    LOG,
    MAX_DEAD_SHARE,
    OUTPUT_SHARDS,
    SEED,
    WORKSPACE,
    check_train_until,
    log_columns,
    source,
)
from pipelines.launch.stage import Stage
from pipelines.launch.upstream import ClustersInfo
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.clusters.read_clusters import ReadItemClusters, read_descriptions, resolve_level
from transforms.errors import InputError
from transforms.inputs.check_dead_share import CheckDeadShare
from transforms.inputs.interactions import ReadInteractions
from transforms.inputs.validate import DEAD, ROW_COUNTS
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.storage.stage_files import SHARDS
from transforms.tables.shuffle import ShardBy
from transforms.tables.write_tables import (
    RequireRows,
    WriteDeadLetter,
    WriteShards,
    WriteTable,
    map_shards,
)
from transforms.transitions.diversify import STRATEGIES, DiversifyFn, Sampling
from transforms.transitions.follow_counts import AFFINITY_FILE, CountFollows
from transforms.transitions.label_distribution import PICTURE, WriteLabelDistribution
from transforms.transitions.mine import count_transitions, mine_by_split, sum_counts
from transforms.transitions.sequence_notes import NoteSequences
from transforms.transitions.splits import SPLITS, SplitSpec
from transforms.transitions.training_examples import (
    STARTS_FILE,
    WriteExamples,
    make_prompts,
    prompt_starts,
)
from transforms.transitions.user_sequences import SequenceParts, WriteSequences

_SPLIT, _EXAMPLES = "levels and splits", "training examples"
NO_ROWS = (
    "more users are needed, each with engagements in at least two clusters; see whether the dead "
    "letter, --level, the shares of the splits, or build_clusters' --min_rating and --train_until "
    "leave enough"
)


def prompt_template(value: str) -> str:
    """Return the text of a prompt template given as a text or a file; checked."""
    text = value
    if "{" not in value:
        try:
            text = files.read_bytes(value).decode()
        except (OSError, UnicodeDecodeError):
            raise argparse.ArgumentTypeError(
                f"{value!r} is neither a text with {{c1}} and {{c2}} nor a file with one, in UTF-8"
            ) from None
    try:
        PromptTemplate.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


FLAGS = (
    WORKSPACE,
    SEED,
    OUTPUT_SHARDS,
    *LOG,
    MAX_DEAD_SHARE,
    Flag(
        "level",
        "level of the tree of clusters that all later stages use, 0 the coarsest",
        type=whole_number(0),
        no_default="the finest",
        group=_SPLIT,
    ),
    Flag(
        "split_by",
        "what separates training from validation and test. user: each user is in one of them; "
        "time: in addition, training has the transitions before --train_until, the others the "
        "later ones",
        choices=("user", "time"),
        default="user",
        group=_SPLIT,
    ),
    *(
        Flag(
            f"{split}_share",
            f"share of the users whose transitions are kept for {split}",
            type=number(0, 0.5),
            default=0.1,
            group=_SPLIT,
        )
        for split in ("valid", "test")
    ),
    Flag(
        "examples_per_cluster",
        "most training examples of each novel cluster, so that none dominates",
        type=whole_number(1),
        default=10,
        group=_EXAMPLES,
    ),
    Flag(
        "diversify",
        "how the training examples are drawn. "
        + "; ".join(f"{name}: {meaning}" for name, meaning in STRATEGIES.items()),
        choices=tuple(STRATEGIES),
        default="uniform",
        group=_EXAMPLES,
    ),
    Flag(
        "prompt_template",
        "prompt of the LLM: a text or a file, with {c1} for the older and {c2} for the newest "
        "interest; {filler} at its start becomes dots that align the shared start of prompts with "
        "the blocks of the engine's cache",
        type=prompt_template,
        default=DEFAULT_TEMPLATE,
        group=_EXAMPLES,
    ),
)


def check_flags(flags: argparse.Namespace) -> None:
    """Raise InputError if the shares leave no users to learn from or to validate on."""
    if not flags.valid_share:
        raise InputError("--valid_share=0: fine-tuning stops by the loss on valid users")
    if flags.valid_share + flags.test_share >= 1:
        raise InputError(
            f"--valid_share={flags.valid_share} and --test_share={flags.test_share} leave no user "
            "to train on"
        )


def check_split(split_by: str, train_until: str | None) -> None:
    """Raise InputError unless a cut in time and --split_by=time come together."""
    if split_by == "time" and train_until is None:
        raise InputError("--split_by=time needs --train_until, which is a flag of build_clusters")
    if split_by != "time" and train_until is not None:
        raise InputError(f"--train_until={train_until} needs --split_by=time")


def check(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError for a split or a period that does not fit the cut of the clusters."""
    train_until = ClustersInfo.read(workspace).train_until
    check_split(flags.split_by, train_until)
    check_train_until(train_until, flags)


def level(flags: argparse.Namespace, workspace: Workspace) -> int:
    """Return the level that --level picks."""
    return resolve_level(workspace.folder("clusters"), flags.level)


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    """Wire the pipeline."""
    clusters, folder = workspace.folder("clusters"), workspace.folder("transitions")
    at_level = level(flags, workspace)
    descriptions = read_descriptions(clusters, at_level)
    template = PromptTemplate.parse(flags.prompt_template)
    upstream = ClustersInfo.read(workspace)
    prompts = make_prompts(upstream.base_model, template, descriptions)
    shards, seed = flags.output_shards, flags.seed
    sampling = Sampling(flags.diversify, flags.examples_per_cluster, len(descriptions), seed)
    cut = microseconds(upstream.train_until)
    spec = SplitSpec(flags.valid_share, flags.test_share, seed, cut)

    item_clusters = pipeline | "Clusters" >> ReadItemClusters(clusters, at_level)
    log = pipeline | ReadInteractions(
        source(flags, "interactions"), item_clusters, upstream.min_rating is not None
    )
    dead = log[DEAD] | WriteDeadLetter(workspace.dead_letter("mine_transitions"), shards)
    checked = log[ROW_COUNTS] | CheckDeadShare(
        "interactions", flags.max_dead_share, log[DEAD], dead
    )
    parts = log.usable | SequenceParts(upstream.min_rating, seed, item_clusters)
    sequences = parts | "Sequences" >> beam.Values().with_output_types(pa.Table)
    splits = (
        sequences
        | "Split" >> beam.Map(spec.user_splits).with_output_types(pa.Table)
        | "SplitShards" >> ShardBy(col.USER_ID, shards, col.USER_SPLITS, (col.USER_ID,))
    )
    mined = sequences | "Mine" >> beam.FlatMap(
        lambda table, item_clusters: mine_by_split(table, item_clusters[1], spec),
        beam.pvalue.AsSingleton(item_clusters),
    ).with_output_types(pa.Table).with_outputs(*SPLITS)
    counts = (
        mined.train
        | "Count" >> beam.Map(count_transitions).with_output_types(pa.Table)
        | "ByLabel" >> ShardBy(col.NOVEL, shards, col.TRANSITION_COUNTS)
        | "Sum" >> map_shards(sum_counts)
    )
    counted = counts | "Counted" >> beam.MapTuple(lambda _, table: table).with_output_types(
        pa.Table
    )
    drawn = counted | "Diversify" >> beam.CombineGlobally(DiversifyFn(sampling)).with_output_types(
        pa.Table
    )
    by_label = (col.NOVEL, col.C1, col.C2)
    chosen = {
        "train": drawn | "By-train" >> ShardBy(col.NOVEL, shards, col.TRANSITION_COUNTS, by_label)
    } | {
        split: mined[split]
        | f"By-{split}" >> ShardBy(col.NOVEL, shards, col.TRANSITIONS, (*by_label, col.USER_ID))
        for split in ("valid", "test")
    }
    return [
        log[ROW_COUNTS],
        pipeline
        | "Prompts" >> beam.Create([prompt_starts(prompts)])
        | "WritePrompts" >> WriteTable(folder, STARTS_FILE),
        dead,
        checked,
        parts | NoteSequences(item_clusters),
        parts | WriteSequences(folder, item_clusters),
        splits | "WriteSplits" >> WriteShards(folder, "splits", shards),
        counts | "WriteCounts" >> WriteShards(folder, "counts", shards),
        mined.train
        | "Follows" >> CountFollows(len(descriptions))
        | "WriteAffinity" >> WriteTable(folder, AFFINITY_FILE),
        {"counts": counted, "drawn": drawn} | WriteLabelDistribution(folder, sampling.labels),
        *(
            rows | f"Write-{split}" >> WriteExamples(folder, f"examples/{split}", shards, prompts)
            for split, rows in chosen.items()
        ),
        *(
            rows
            | f"Check-{split}"
            >> RequireRows(f"no transitions of {split} users: {NO_ROWS}", checked)
            for split, rows in chosen.items()
            if split != "test"
        ),
    ]


STAGE = Stage(
    name="mine_transitions",
    folder="transitions",
    description=__doc__ or "",
    own_flags=FLAGS,
    outputs=(
        STARTS_FILE,
        AFFINITY_FILE,
        PICTURE,
        *(f"{name}/{SHARDS}.parquet" for name in ("sequences", "splits", "counts")),
        *(f"examples/{split}/{SHARDS}.parquet" for split in SPLITS),
    ),
    tables=lambda _, workspace: {
        "interactions": log_columns(ClustersInfo.read(workspace).min_rating)
    },
    stages=("clusters",),
    extra_files=lambda _, workspace: ClustersInfo.read(workspace).base_model_files(),
    taken_over=lambda workspace: ClustersInfo.read(workspace).settings(),
    check_flags=check_flags,
    check=check,
    level=level,
    build=build,
    threads=True,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
