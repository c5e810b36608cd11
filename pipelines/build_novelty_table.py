"""Asks the LLM for the novel interests after every pair of interests, and writes the table."""

import argparse
import sys

import apache_beam as beam

from models.language.cost import table_cost
from models.language.cost.count_queries import count_work
from models.language.cost.machine_types import MACHINES, machine_type
from models.language.cost.model_size import model_size
from models.language.language_model import load_tokenizer
from pipelines.launch.check_gates import check_not_failed
from pipelines.launch.dataflow.worker_machines import Workers, hints, worker_flags
from pipelines.launch.flag_types import engine_arguments, number, semicolon_list, whole_number
from pipelines.launch.flags import Flag
from pipelines.launch.shared_flags import IGNORE_GATES, SEED, WORKSPACE
from pipelines.launch.stage import Stage
from pipelines.launch.upstream import TransitionsInfo
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.errors import as_input_error
from transforms.language.blocked_clusters import resolve_blocked
from transforms.language.build_novelty_table import BuildNoveltyTable, progress_line, row_parts
from transforms.language.novelty_engine import NoveltyEngineSpec
from transforms.storage.folders import local_copy
from transforms.storage.manifest import RowCounts, read_manifest
from transforms.storage.stage_files import SHARDS
from transforms.transitions.training_examples import read_prompts

HERE = "this machine"
_GROUP, _ENGINE, _INSPECT = "novelty table", "engine", "information in place of a run"


FLAGS = (
    WORKSPACE,
    SEED,
    Flag(
        "clusters_per_pair",
        "most novel clusters listed for each pair",
        type=whole_number(1),
        default=20,
        group=_GROUP,
    ),
    Flag(
        "blocked_clusters",
        "clusters that are never an answer, by id or description, separated by semicolons",
        type=semicolon_list,
        default=[],
        group=_GROUP,
    ),
    Flag(
        "engine_args",
        "further arguments of vLLM's engine as a JSON object, such as "
        "'{\"tensor_parallel_size\": 2}'",
        type=engine_arguments,
        default="{}",
        group=_ENGINE,
        form=("TEXT", r"\{[\s\S]*\}"),
    ),
    Flag(
        "engine_timeout",
        "seconds that the engine may take to start, or for up to 1,024 pairs, before it counts as "
        "hung and is replaced",
        type=number(1),
        default=1800.0,
        group=_ENGINE,
        in_plan=False,
    ),
    *worker_flags("host the engine"),
    Flag(
        "discard_partial",
        "delete the files that an interrupted run with other flags or inputs has committed",
        switch=True,
        group=_GROUP,
        in_plan=False,
    ),
    IGNORE_GATES,
    Flag(
        "status",
        "print the progress of a run, on whatever machine it runs, and exit",
        switch=True,
        group=_INSPECT,
        inspects=True,
    ),
    Flag(
        "estimate",
        "print the queries, tokens, hours and dollars that the table takes, without starting an "
        f"engine, and exit: on this machine, or on one of {', '.join(MACHINES)}",
        optional_value=HERE,
        metavar="MACHINE_TYPE",
        no_default="run",
        group=_INSPECT,
        inspects=True,
    ),
)


def check(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError if a blocked cluster does not exist."""
    resolve_blocked(flags.blocked_clusters, list(TransitionsInfo.read(workspace).descriptions))


def _engine_spec(flags: argparse.Namespace, workspace: Workspace) -> NoveltyEngineSpec:
    mined = TransitionsInfo.read(workspace)
    descriptions = list(mined.descriptions)
    return NoveltyEngineSpec(
        model=workspace.folder("language_model"),
        prompts=read_prompts(workspace.folder("transitions"), mined.template, descriptions),
        blocked=tuple(resolve_blocked(flags.blocked_clusters, descriptions)),
        n=flags.clusters_per_pair,
        seed=flags.seed,
        engine_args=flags.engine_args,
        timeout=flags.engine_timeout,
    )


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    """Wire the pipeline."""
    committed = workspace.committed(STAGE.folder, STAGE.name)
    return [pipeline | BuildNoveltyTable(committed, _engine_spec(flags, workspace), hints(flags))]


def inspect(flags: argparse.Namespace, workspace: Workspace) -> str | None:
    """Return what --status or --estimate asks for."""
    if flags.estimate is not None:
        return _estimate(flags, workspace)
    if not flags.status:
        return None
    manifest = read_manifest(workspace.folder(STAGE.folder))
    if manifest is not None:
        pairs, seconds = manifest["rows"]["written"], manifest["seconds"]
        return f"complete: {pairs:,} pairs; the last run took {seconds:,.0f} s"
    committed = workspace.committed(STAGE.folder, STAGE.name)
    return progress_line(committed, len(TransitionsInfo.read(workspace).descriptions))


def _estimate(flags: argparse.Namespace, workspace: Workspace) -> str:
    workspace.manifest("language_model")
    spec = _engine_spec(flags, workspace)
    machine = None if flags.estimate == HERE else flags.estimate
    model = local_copy(spec.model)
    with as_input_error("--estimate: "):
        if machine is not None:
            machine_type(machine)
        size = model_size(model)
        work = count_work(
            load_tokenizer(model),
            spec.prompts,
            spec.blocked,
            spec.n,
            row_parts(len(spec.prompts.descriptions)),
        )
        return table_cost.report(work, size, table_cost.estimate(work, size, machine))


STAGE = Stage(
    name="build_novelty_table",
    folder="novelty_table",
    description=__doc__ or "",
    own_flags=FLAGS,
    outputs=(f"{SHARDS}.parquet",),
    stages=("clusters", "transitions", "language_model"),
    check=check,
    check_release=check_not_failed,
    inspect=inspect,
    level=lambda _, workspace: workspace.level("transitions"),
    build=build,
    workers=Workers("n1-standard-8", models=True),
    resumes=True,
    commits=True,
    output_schema=col.NOVELTY_TABLE,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
