"""Runs all stages in order: from a log of interactions to novel items for every user."""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib import import_module

from pipelines import mine_transitions
from pipelines.launch.exit_codes import log, printable, run_guarded
from pipelines.launch.flags import Flag, make_parser, parse
from pipelines.launch.resume import refuse_inputs_inside
from pipelines.launch.shared_flags import (
    DATASET_OR_INPUTS,
    LOG,
    WORKSPACE,
    name_inputs,
    source,
)
from pipelines.launch.stage import EPILOG, Stage
from pipelines.launch.summary import summary
from pipelines.launch.workspace import PIPELINES, Workspace
from transforms.errors import InputError
from transforms.storage.bigquery_client import TableName

STAGES: list[Stage] = [import_module(f"pipelines.{name}").STAGE for name in PIPELINES.values()]


def dataset(text: str) -> str:
    """Return the type of a flag: project.dataset."""
    try:
        TableName.parse(f"{text}.table", "output_dataset")
    except InputError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a BigQuery dataset; give project.dataset, such as my-project.shop"
        ) from None
    return text


FLAGS = (
    WORKSPACE,
    *DATASET_OR_INPUTS,
    *(flag for stage in STAGES for flag in stage.own_flags if not flag.inspects),
    Flag(
        "output_dataset",
        "BigQuery dataset, project.dataset, whose tables novelty_table and recommendations also "
        "get the rows",
        type=dataset,
        group="output",
    ),
)


def flags_once() -> list[Flag]:
    """Return the flags of all stages, the first of each name."""
    first: dict[str, Flag] = {}
    for flag in FLAGS:
        first.setdefault(flag.name, flag)
    return list(first.values())


def of_stage(flags: argparse.Namespace, stage: Stage) -> argparse.Namespace:
    """Return the flags of one stage, with the table that --output_dataset stands for."""
    given = flags.output_dataset
    own = vars(flags) | {"output_table": given and f"{given}.{stage.folder}"}
    if stage.name == "recommend":  # the log is that of mine_transitions, which validated it
        own |= {flag.name: flag.default for flag in LOG}
    return argparse.Namespace(**own)


def run(flags: argparse.Namespace, beam_flags: list[str]) -> None:
    """Run all stages and print the summary."""
    name_inputs(flags, Workspace(flags.workspace).folder("input"))
    mine_transitions.check_split(flags.split_by, flags.train_until)
    for stage in STAGES:  # a wrong flag of the last stage should not cost the work of the first
        stage.check_flags(flags)
        stage.check_output(of_stage(flags, stage))
    workspace = Workspace(flags.workspace)
    written = [folder for stage in STAGES for folder in stage.written(workspace)]
    for name in ("interactions", "items"):
        refuse_inputs_inside(source(flags, name).paths, written)
    begun = time.monotonic()
    for number, stage in enumerate(STAGES, 1):
        log.info("[%d/%d] %s", number, len(STAGES), stage.name)
        stage.run(of_stage(flags, stage), beam_flags)
    log.info("all stages complete, %.0f s in this run", time.monotonic() - begun)
    print(printable(summary(workspace)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line and return the exit code."""
    own = flags_once()
    parser = make_parser("python -m pipelines.explore", __doc__ or "", EPILOG, own)
    flags, beam_flags = parse(parser, own, argv)
    return run_guarded(lambda: run(flags, beam_flags))


if __name__ == "__main__":
    sys.exit(main())
