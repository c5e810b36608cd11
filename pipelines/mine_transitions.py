"""Mines transitions between interest clusters and writes the examples the LLM is tuned on."""

import argparse
import sys

import apache_beam as beam
import pyarrow as pa

from models.language.prompt import DEFAULT_TEMPLATE, PromptTemplate
from pipelines.launch import flags as command_line
from pipelines.launch.stage import Stage
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.clusters.read_clusters import ReadItemClusters, read_descriptions, resolve_level
from transforms.errors import InputError
from transforms.inputs.interactions import ReadInteractions
from transforms.inputs.validate import DEAD, TALLY
from transforms.storage import files
from transforms.storage.manifest import RowCounts
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
from transforms.transitions.label_distribution import WriteLabelDistribution
from transforms.transitions.mine import count_transitions, mine_by_split, sum_counts
from transforms.transitions.splits import SPLITS, SplitSpec
from transforms.transitions.training_examples import (
    STARTS_FILE,
    WriteExamples,
    make_prompts,
    prompt_starts,
)
from transforms.transitions.user_sequences import UserSequences

NO_ROWS = (
    "more users are needed, each with engagements in at least two clusters; see whether the dead "
    "letter, --min_rating, --level, --train_until or the shares of the splits leave enough"
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this pipeline."""
    command_line.add_workspace(parser)
    command_line.add_shards(parser)
    command_line.add_interactions(parser)
    command_line.add_train_until(parser)
    command_line.add_base_model(parser)
    parser.add_argument(
        "--level",
        type=command_line.whole_number(0),
        help="level of the tree of clusters that all later stages use, 0 the coarsest "
        "(default: the finest)",
    )
    parser.add_argument(
        "--examples_per_cluster",
        type=command_line.whole_number(1),
        default=10,
        help="training examples of each novel cluster, at most, so that none dominates (default: "
        "10)",
    )
    parser.add_argument(
        "--diversify",
        choices=tuple(STRATEGIES),
        default="uniform",
        help="how they are drawn. "
        + "; ".join(f"{name}: {meaning}" for name, meaning in STRATEGIES.items())
        + " (default: uniform)",
    )
    parser.add_argument(
        "--split_by",
        choices=("user", "time"),
        default="user",
        help="what keeps training apart from valid and test. user: each user is in one of them; "
        "time: also, training has the transitions before --train_until, the others those from it "
        "on (default: user)",
    )
    for split in ("valid", "test"):
        parser.add_argument(
            f"--{split}_share",
            type=command_line.number(0, 0.5),
            default=0.1,
            help=f"share of the users whose transitions are kept for {split} (default: 0.1)",
        )
    parser.add_argument(
        "--prompt_template",
        type=prompt_template,
        default=DEFAULT_TEMPLATE,
        help="what the LLM is asked: a text, or a file with it, with {c1} for the older and {c2} "
        "for the newest interest; {filler} at its very start stands for as many dots as make what "
        "pairs share fill whole blocks of the engine's cache "
        f"(default: {DEFAULT_TEMPLATE!r})".replace("%", "%%"),
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


def check_flags(flags: argparse.Namespace) -> None:
    """Raise InputError for splits that leave no training users, or miss --train_until."""
    if not flags.valid_share:
        raise InputError("--valid_share=0: fine-tuning stops by the loss on valid users")
    if flags.valid_share + flags.test_share >= 1:
        raise InputError(
            f"--valid_share={flags.valid_share} and --test_share={flags.test_share} leave no user "
            "to train on"
        )
    if flags.split_by == "time" and flags.train_until is None:
        raise InputError("--split_by=time needs --train_until, the date or time at which to split")
    if flags.split_by != "time" and flags.train_until is not None:
        raise InputError(f"--train_until={flags.train_until} needs --split_by=time")
    command_line.check_train_until(flags)


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
    prompts = make_prompts(flags.base_model, template, descriptions)
    shards, seed, min_rating = flags.output_shards, flags.seed, flags.min_rating
    sampling = Sampling(flags.diversify, flags.examples_per_cluster, len(descriptions), seed)
    spec = SplitSpec(flags.valid_share, flags.test_share, seed, command_line.cut(flags))

    item_clusters = pipeline | "Clusters" >> ReadItemClusters(clusters, at_level)
    log = pipeline | ReadInteractions(command_line.source(flags, "interactions"), item_clusters)
    sequences = log.usable | UserSequences(min_rating)
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
        log[TALLY],
        pipeline
        | "Prompts" >> beam.Create([prompt_starts(prompts)])
        | "WritePrompts" >> WriteTable(folder, STARTS_FILE),
        log[DEAD] | WriteDeadLetter(workspace.dead_letter("mine_transitions"), shards),
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
            rows | f"Check-{split}" >> RequireRows(f"no transitions of {split} users: {NO_ROWS}")
            for split, rows in chosen.items()
            if split != "test"
        ),
    ]


STAGE = Stage(
    name="mine_transitions",
    folder="transitions",
    description=__doc__ or "",
    add_flags=add_flags,
    external={"interactions": [col.USER_ID, col.ITEM_ID, col.TIMESTAMP]},
    stages=("clusters",),
    model_files=command_line.base_model_files,
    level=level,
    build=build,
    threads=True,
    check_flags=check_flags,
    check=command_line.check_same_train_until,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
