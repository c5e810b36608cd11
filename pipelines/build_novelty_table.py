"""Asks the LLM for the novel interests after every pair of interests, and writes the table."""

import argparse
import json
import sys

import apache_beam as beam

from models.language.cost import table_cost
from models.language.cost.count_queries import count_work
from models.language.cost.machine_types import MACHINES, machine_type
from models.language.cost.model_size import model_size
from models.language.language_model import load_tokenizer
from pipelines.launch import dataflow
from pipelines.launch import flags as command_line
from pipelines.launch.check_gates import add_ignore_gates
from pipelines.launch.stage import Stage
from pipelines.launch.upstream import prompt_template
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.clusters.read_clusters import read_descriptions
from transforms.errors import as_input_error
from transforms.language.blocked_clusters import resolve_blocked
from transforms.language.build_novelty_table import BuildNoveltyTable, progress_line, row_parts
from transforms.language.novelty_engine import NoveltyEngineSpec
from transforms.storage.folders import local_copy
from transforms.storage.manifest import RowCounts, read_manifest
from transforms.transitions.training_examples import read_prompts

HERE = "this machine"


def engine_args(text: str) -> str:
    """Return a flag's JSON object, in one spelling."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is not a JSON object like {{"dtype": "auto"}}')
    return json.dumps(value, sort_keys=True)


def names(text: str) -> list[str]:
    """Return what a flag lists, separated by semicolons: descriptions contain commas."""
    return [name.strip() for name in text.split(";") if name.strip()]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this pipeline."""
    command_line.add_workspace(parser)
    parser.add_argument(
        "--clusters_per_pair",
        type=command_line.whole_number(1),
        default=20,
        help="novel clusters kept for each pair, at most (default: 20)",
    )
    parser.add_argument(
        "--blocked_clusters",
        type=names,
        default=[],
        help="clusters that are never an answer, by id or description, separated by semicolons "
        "(default: none)",
    )
    parser.add_argument(
        "--engine_args",
        type=engine_args,
        default="{}",
        help="further arguments of vLLM's engine as a JSON object, such as "
        "'{\"tensor_parallel_size\": 2}' (default: {})",
    )
    parser.add_argument(
        "--engine_timeout",
        type=command_line.number(1),
        default=1800.0,
        help="seconds that the engine may take to start, or for up to 1,024 pairs, before it "
        "counts as hung and is replaced (default: 1800)",
    )
    dataflow.add_hints(parser, "host the engine")
    parser.add_argument(
        "--discard_partial",
        action="store_true",
        help="delete what an interrupted run with other flags or inputs has committed",
    )
    add_ignore_gates(parser)


def check(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Check that the blocked clusters are there."""
    resolve_blocked(flags.blocked_clusters, _descriptions(workspace))


def _descriptions(workspace: Workspace) -> list[str]:
    return read_descriptions(workspace.folder("clusters"), workspace.level("transitions"))


def _engine_spec(flags: argparse.Namespace, workspace: Workspace) -> NoveltyEngineSpec:
    descriptions = _descriptions(workspace)
    return NoveltyEngineSpec(
        model=workspace.folder("language_model"),
        prompts=read_prompts(
            workspace.folder("transitions"), prompt_template(workspace), descriptions
        ),
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
    spec = _engine_spec(flags, workspace)
    committed = workspace.committed(STAGE.folder, STAGE.name)
    return [pipeline | BuildNoveltyTable(committed, spec, dataflow.hints(flags))]


def add_reports(parser: argparse.ArgumentParser) -> None:
    """Add the flags that report in place of a run."""
    parser.add_argument(
        "--status",
        action="store_true",
        help="say how far a run has come, wherever it runs, and end",
    )
    parser.add_argument(
        "--estimate",
        nargs="?",
        const=HERE,
        metavar="MACHINE_TYPE",
        help="say how many questions, tokens, hours and dollars the table takes, without starting "
        f"an engine, and end: on this machine, or on one of {', '.join(MACHINES)}",
    )


def report(flags: argparse.Namespace, workspace: Workspace) -> str | None:
    """Return the report that is asked for."""
    if flags.estimate is not None:
        return _estimate(flags, workspace)
    if not flags.status:
        return None
    manifest = read_manifest(workspace.folder(STAGE.folder))
    if manifest is not None:
        pairs, seconds = manifest["rows"]["written"], manifest["seconds"]
        return f"complete: {pairs:,} pairs; the last run took {seconds:,.0f} s"
    committed = workspace.committed(STAGE.folder, STAGE.name)
    return progress_line(committed, len(_descriptions(workspace)))


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
    add_flags=add_flags,
    external={},
    stages=("clusters", "transitions", "language_model"),
    level=lambda flags, workspace: workspace.level("transitions"),
    build=build,
    check=check,
    resumes=True,
    commits=True,
    add_reports=add_reports,
    report=report,
    table=col.NOVELTY_TABLE,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
