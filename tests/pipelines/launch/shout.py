"""Two small stages: one writes words in capitals, the other follows it."""

import argparse

import apache_beam as beam
import pyarrow as pa

from pipelines.launch.flags import Flag
from pipelines.launch.shared_flags import ITEMS, ITEMS_FORMAT, SEED, TEXTS, WORKSPACE
from pipelines.launch.stage import Stage
from pipelines.launch.workspace import Workspace
from transforms.errors import InputError
from transforms.inputs.find_files import find_files
from transforms.inputs.read_files import ReadTables
from transforms.storage import files
from transforms.storage.manifest import RowCounts

RUNS: list[str] = []  # names of the stages that were built


FLAGS = (
    WORKSPACE,
    SEED,
    ITEMS,
    *ITEMS_FORMAT,
    *TEXTS,
    Flag("fail", "fails", choices=("input", "other")),
    Flag("level", "level", type=int, default=0),
)


DISCARD = Flag("discard_partial", "discards", switch=True, in_plan=False)


def shout(table: pa.Table, folder: str, fail: str | None) -> RowCounts:
    """Write the words of a table in capitals."""
    if fail == "input":
        raise InputError("--items: the word 'quiet' can't be shouted; leave it out")
    if fail == "other":
        raise RuntimeError("no voice")
    words = "\n".join(table["word"].to_pylist()).upper()
    record = files.write_record(folder, "words.txt", words.encode())
    return RowCounts(table.num_rows, table.num_rows, written=table.num_rows, files=(record,))


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    RUNS.append("shout")
    read = pipeline | ReadTables(tuple(find_files(flags.items, "items")))
    return [read | beam.Map(shout, workspace.folder("clusters"), flags.fail)]


# It takes the place of build_clusters, so that another stage can follow it.
SHOUT = Stage(
    name="shout",
    folder="clusters",
    description="Writes words in capitals.",
    own_flags=FLAGS,
    tables=lambda *_: {"items": ["word"]},
    outputs=("words.txt", "half.parquet", "a"),
    level=lambda flags, workspace: flags.level,
    build=build,
)


def build_echo(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    RUNS.append("echo")
    return [pipeline | beam.Create([RowCounts()])]


ECHO = Stage(
    name="echo",
    folder="transitions",
    description="Follows the other.",
    own_flags=(WORKSPACE, SEED),
    stages=("clusters",),
    level=lambda flags, workspace: None,
    build=build_echo,
)
