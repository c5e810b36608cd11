"""Runs all stages in order: from a log of interactions to novel items for every user."""

import argparse
import sys
import time
from collections.abc import Sequence

from pipelines import (
    build_clusters,
    build_novelty_table,
    evaluate,
    finetune,
    mine_transitions,
    recommend,
    train_retrieval,
)
from pipelines.launch import flags as command_line
from pipelines.launch.error_messages import log, run_guarded
from pipelines.launch.stage import Stage
from pipelines.launch.summary import summary
from pipelines.launch.workspace import Workspace
from transforms.errors import InputError, as_input_error
from transforms.inputs.datasets import NAMES, write_dataset
from transforms.storage.bigquery_client import TableName

STAGES = [
    module.STAGE
    for module in (
        build_clusters,
        mine_transitions,
        finetune,
        build_novelty_table,
        train_retrieval,
        evaluate,
        recommend,
    )
]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of all stages, each once, and --dataset."""
    parser.add_argument(
        "--dataset",
        choices=NAMES,
        help="a built-in dataset in place of --interactions and --items",
    )
    for stage in STAGES:
        stage.add_flags(parser)
    parser.add_argument(
        "--output_dataset",
        type=dataset,
        help="BigQuery dataset, project.dataset, whose tables novelty_table and recommendations "
        "get the rows too (default: none)",
    )
    for action in parser._actions:
        if action.dest in ("interactions", "items"):
            action.required = False


def dataset(text: str) -> str:
    """Return the type of a flag: project.dataset."""
    try:
        TableName.parse(f"{text}.table", "output_dataset")
    except InputError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a BigQuery dataset; give project.dataset, such as my-project.shop"
        ) from None
    return text


def of_stage(flags: argparse.Namespace, stage: Stage) -> argparse.Namespace:
    """Return the flags of one stage, with the table that --output_dataset stands for."""
    given = flags.output_dataset
    return argparse.Namespace(**vars(flags), output_table=given and f"{given}.{stage.folder}")


def run(flags: argparse.Namespace, beam_flags: list[str]) -> None:
    """Run all stages and print the summary."""
    if flags.dataset:
        if flags.interactions or flags.items:
            raise InputError("give either --dataset or --interactions and --items, not both")
        folder = Workspace(flags.workspace).folder("input")
        with as_input_error():
            flags.interactions, flags.items = write_dataset(flags.dataset, folder)
    elif not (flags.interactions and flags.items):
        raise InputError(
            "--interactions and --items are missing: name your files, or try --dataset=movielens"
        )
    for stage in STAGES:  # what is wrong with the last one should not cost the work of the first
        stage.check_flags(flags)
        stage.model_files(flags)
        stage.check_output(of_stage(flags, stage))
    begun = time.monotonic()
    for number, stage in enumerate(STAGES, 1):
        log.info("[%d/%d] %s", number, len(STAGES), stage.name)
        stage.run(of_stage(flags, stage), beam_flags)
    log.info("all stages complete, %.0f s in this run", time.monotonic() - begun)
    print(summary(Workspace(flags.workspace)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.explore",
        description=__doc__,
        epilog="All flags of Beam and of its runners are taken too. Exit code: 0 complete, 1 "
        "failed (start it again: it goes on where it stopped), 2 flags or input that can't be "
        "used.",
        allow_abbrev=False,
        conflict_handler="resolve",  # stages share flags
    )
    add_flags(parser)
    flags, beam_flags = command_line.parse(parser, argv)
    return run_guarded(lambda: run(flags, beam_flags))


if __name__ == "__main__":
    sys.exit(main())
