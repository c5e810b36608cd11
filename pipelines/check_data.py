"""Says what is in a log and its items and what would be dropped, without building anything.

The last line names the clusters to ask `pipelines.explore` for.
"""

import argparse
import pickle
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.launch.exit_codes import printable, run_guarded
from pipelines.launch.flags import make_parser, parse
from pipelines.launch.runner import running_pipeline, with_default_runner
from pipelines.launch.shared_flags import (
    DATASET_OR_INPUTS,
    ITEMS_FORMAT,
    LOG,
    MIN_RATING,
    log_columns,
    name_inputs,
    source,
)
from transforms import schemas as col
from transforms.errors import InputError
from transforms.inputs.check_dead_share import DeadReasons, count_reasons, reason_lines
from transforms.inputs.interactions import ReadInteractions
from transforms.inputs.reasons import DUPLICATE_ITEM
from transforms.inputs.validate import (
    DEAD,
    ROW_COUNTS,
    VALID_ITEMS,
    DropDuplicates,
    ValidateItems,
)
from transforms.storage.manifest import RowCounts
from transforms.tables.combiners import SumFn
from transforms.tables.shuffle import PARTS, GatherTables, ShardBy
from transforms.transitions.log_facts import (
    CLUSTERS,
    SESSION_MINUTES,
    LogFacts,
    log_facts,
    most_transitions,
    supported_clusters,
)
from transforms.transitions.sequence_notes import NoteSequences
from transforms.transitions.user_sequences import SequenceParts

EPILOG = (
    "It runs on this machine. Exit code: 0 the data can be used; 2 it cannot, or a flag is wrong."
)
FLAGS = (
    *DATASET_OR_INPUTS,
    *ITEMS_FORMAT,
    *LOG[1:],
    MIN_RATING,
)


class Findings(NamedTuple):
    """What is known of both inputs, each by its name, and of the usable log."""

    rows: dict[str, RowCounts]
    dead: dict[str, DeadReasons]
    facts: LogFacts | None  # None without an engagement


def read(flags: argparse.Namespace, folder: Path) -> Findings:
    """Read both inputs once."""
    inputs = {name: source(flags, name) for name in ("items", "interactions")}
    inputs["items"].check([col.ITEM_ID, col.TITLE])
    inputs["interactions"].check(log_columns(flags.min_rating))
    project = [f"--project={flags.project}"] if flags.project else []
    options = PipelineOptions(with_default_runner(project, threads=True))
    found = folder / "found"
    with running_pipeline(options, str(folder / "temporary")) as pipeline:
        items = (
            pipeline
            | "ReadItems" >> inputs["items"].read()
            | "ValidateItems" >> ValidateItems(inputs["items"].written)
        )
        distinct = (
            items.usable
            | "ItemParts" >> ShardBy(col.ITEM_ID, PARTS, VALID_ITEMS)
            | "FirstOfEach" >> DropDuplicates(inputs["items"].ordered)
        )
        item_ids = (
            distinct.usable
            | "Ids"
            >> beam.MapTuple(lambda _, table: table.select([col.ITEM_ID])).with_output_types(
                pa.Table
            )
            | "AllIds" >> GatherTables(pa.schema([col.ITEMS.field(col.ITEM_ID)]), (col.ITEM_ID,))
            | "IdArray" >> beam.Map(lambda table: (table[col.ITEM_ID].combine_chunks(), None))
        )
        log = pipeline | ReadInteractions(
            inputs["interactions"], item_ids, flags.min_rating is not None
        )
        parts = log.usable | SequenceParts(flags.min_rating, 0, item_ids)
        facts = parts | "Facts" >> beam.Map(
            lambda part, ids: log_facts(part[1], len(ids[0])), beam.pvalue.AsSingleton(item_ids)
        )
        (
            (
                *_named("items", (items[ROW_COUNTS], distinct[ROW_COUNTS]), items[DEAD]),
                *_named(
                    "interactions",
                    (log[ROW_COUNTS], parts | NoteSequences(item_ids)),
                    log[DEAD],
                ),
                facts
                | "AddFacts" >> beam.CombineGlobally(SumFn())
                | "NameFacts" >> beam.Map(lambda total: ("facts", total)),
            )
            | "All" >> beam.Flatten()
            | "Dict" >> beam.combiners.ToDict()
            | "Keep" >> beam.Map(lambda every: found.write_bytes(pickle.dumps(every)))
        )
    every = pickle.loads(found.read_bytes())  # of this process
    return Findings(
        {name: every[f"rows {name}"] for name in inputs},
        {name: every[f"dead {name}"] for name in inputs},
        every["facts"],
    )


def _named(
    name: str, counts: tuple[beam.PCollection, ...], dead: beam.PCollection
) -> tuple[beam.PCollection, beam.PCollection]:
    """Return what is known of the rows of an input, as (name, sum)."""
    rows = (
        counts
        | f"Join-{name}" >> beam.Flatten()
        | f"Count-{name}" >> beam.CombineGlobally(SumFn(RowCounts))
        | f"Name-{name}" >> beam.Map(lambda total: (f"rows {name}", total))
    )
    reasons = (
        dead
        | f"Reasons-{name}" >> beam.Map(count_reasons)
        | f"AddReasons-{name}" >> beam.CombineGlobally(SumFn(DeadReasons))
        | f"NameReasons-{name}" >> beam.Map(lambda total: (f"dead {name}", total))
    )
    return rows, reasons


def rows_text(name: str, rows: RowCounts, dead: DeadReasons) -> list[str]:
    """Return lines on the rows of an input."""
    share = rows.used / rows.read if rows.read else 0.0
    repeated = rows.read - rows.used - dead.counts.total()
    again = [f"  dropped: {repeated:,} x {DUPLICATE_ITEM}"] if repeated else []
    return [
        f"{name}: {rows.read:,} rows, {rows.used:,} of them ({share:.1%}) can be used",
        *again,
        *(f"  dropped: {line}" for line in reason_lines(dead)),
        *(f"  note: {count:,} {note}" for note, count in sorted(rows.notes.items())),
    ]


def facts_text(facts: LogFacts) -> list[str]:
    """Return lines on the engagements of a log."""
    first, last = (
        datetime.fromtimestamp(time / 1e6, UTC).date().isoformat()
        for time in (facts.first, facts.last)
    )
    engaged = int(np.count_nonzero(facts.items))
    lines = [
        f"engagements: {facts.engagements:,}, from {first} to {last}, with {engaged:,} of "
        f"{len(facts.items):,} items",
        f"users: {facts.users:,}; half of them have at most {facts.quantile(0.5):,} engagements, "
        f"nine tenths at most {facts.quantile(0.9):,}; {facts.sessions / facts.users:.1f} sessions "
        f"a user ({SESSION_MINUTES} minutes without an engagement end one)",
        f"repeated: {facts.repeated / facts.engagements:.1%} of the engagements are with an item "
        "that the user had before",
        "transitions to a new cluster, at most (users keep to their tastes, so there are fewer):",
    ]
    return lines + [
        f"  {clusters:,} clusters: {most_transitions(facts, clusters):,}"
        for clusters in CLUSTERS
        if clusters <= engaged
    ]


def run(flags: argparse.Namespace) -> None:
    """Print the facts; InputError if nothing can be built from the data."""
    with tempfile.TemporaryDirectory() as folder:
        name_inputs(flags, folder)
        found = read(flags, Path(folder))
    for name, rows in found.rows.items():
        print(printable("\n".join(rows_text(name, rows, found.dead[name]))))
    facts = found.facts
    if facts is None or not facts.engagements:
        raise InputError("no interaction can be used; the lines above say why")
    print("\n".join(facts_text(facts)))
    if not (sizes := supported_clusters(facts)):
        raise InputError(
            "the log is too small for 12 clusters, the least that make sense: more users, each "
            "with several items, are needed"
        )
    print(f"give pipelines.explore --clusters={','.join(map(str, sizes))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line and return the exit code."""
    parser = make_parser("python -m pipelines.check_data", __doc__ or "", EPILOG, FLAGS)
    flags, beam_flags = parse(parser, FLAGS, argv)

    def work() -> None:
        given = [flag for flag in beam_flags if flag.startswith("--")]  # without their values
        if others := [flag for flag in given if flag.split("=")[0] != "--project"]:
            raise InputError(f"{others[0]}: check_data runs on this machine; leave the flag out")
        run(flags)

    return run_guarded(work)


if __name__ == "__main__":
    sys.exit(main())
