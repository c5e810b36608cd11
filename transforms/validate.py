"""Which rows of the input can be used, and why the others can't.

The functions check a whole batch at once; the PTransforms send what can't be used to the dead
letter and count, so that read = used + dead.
"""

import datetime
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from transforms import schemas as col
from transforms.errors import InputError
from transforms.manifest import Tally
from transforms.read_tables import MALFORMED, POSITION

DEAD = "dead"
TALLY = "tally"

MALFORMED_LINE = "the line has another number of fields than the header"
NO_USER = "user_id is missing"
NO_ITEM = "item_id is missing"
NO_TIME = "timestamp is missing"
BAD_TIME = "timestamp is neither seconds since 1970 nor ISO 8601"
FUTURE = "timestamp lies in the future (are these milliseconds? seconds are expected)"
BAD_RATING = "rating is not a finite number"
NO_METADATA = "the item is not among the items that have a cluster"
NO_TEXT = "the item has no title, keywords or text to embed"
NO_EMBEDDING = "embedding is missing, though the items have a column of embeddings"
BAD_EMBEDDING = "embedding holds other than finite numbers"
BAD_ELIGIBLE = "eligible is neither true nor false"
DUPLICATE_ITEM = "item_id occurs before; the first one is used"

_TICKS = {"s": 1, "ms": 1_000}  # per second
_NUMBER = r"^-?\d{1,30}(\.\d{1,30})?([eE]\+?\d{1,2})?$"
_YEAR_1 = -62_135_596_800  # seconds since 1970

# Usable on their own; the line is what the dead letter says of an item that is a duplicate.
VALID_ITEMS = col.ITEMS.append(pa.field(POSITION, pa.int64())).append(pa.field("line", pa.string()))


class Reasons:
    """The first reason found against each row of a batch."""

    def __init__(self, rows: int) -> None:
        self._names: list[str] = []
        self._reason = np.full(rows, -1, np.int32)

    def add(self, reason: str, mask: np.ndarray | pa.Array | pa.ChunkedArray) -> None:
        """Note a reason against the rows of a mask [rows] that have none yet."""
        against = _to_numpy(mask) if isinstance(mask, pa.Array | pa.ChunkedArray) else mask
        self._names.append(reason)
        self._reason[against & (self._reason < 0)] = len(self._names) - 1

    @property
    def usable(self) -> np.ndarray:
        """[rows] bool: nothing is against the row."""
        return self._reason < 0

    def dead_rows(self, raw: pa.Table, input_name: str) -> pa.Table:
        """Return the other rows as DEAD_ROWS, verbatim."""
        dead = np.flatnonzero(self._reason >= 0)
        names = [self._names[number] for number in self._reason[dead]]
        rows = _rows(raw.take(pa.array(dead)))
        lines = [_line(row, input_name, name) for row, name in zip(rows, names, strict=True)]
        return pa.table({"line": lines, "reason": names}, schema=col.DEAD_ROWS)


def _rows(raw: pa.Table) -> list[dict[str, Any]]:
    """Return rows with times as text: Python knows no year beyond 9999 and no nanoseconds."""
    for at, field in enumerate(raw.schema):
        column = raw[field.name]
        if pa.types.is_timestamp(field.type):
            zone = "" if field.type.tz is None else "Z"
            wall = column.cast(pa.int64()).cast(pa.timestamp(field.type.unit)).cast(pa.string())
            raw = raw.set_column(at, field.name, pc.binary_join_element_wise(wall, zone, ""))
        elif pa.types.is_date(field.type):
            raw = raw.set_column(at, field.name, column.cast(pa.string()))
    return raw.to_pylist()


def _line(row: dict[str, Any], input_name: str, reason: str) -> str:
    own = {"input": input_name, "reason": reason}
    # A column of the input that has one of our names keeps its value under another.
    verbatim = {
        f"row.{name}" if name in own else name: _plain(value)
        for name, value in row.items()
        if name != POSITION
    }
    return _json(verbatim | own)


def _json(values: dict[str, Any]) -> str:
    # Line ends to Unicode, though not to JSON: many readers would split the line there.
    ends = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
    return json.dumps(values, ensure_ascii=False, default=str).translate(ends)


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: dates in ISO 8601, bytes in hex, NaN as a string."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _to_numpy(mask: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(mask, False).to_numpy(zero_copy_only=False)


def as_ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return ids as strings; missing, empty and blank ones as null.

    Integers are taken as their decimal form; whole floats (pandas' integers with gaps, which are
    NaN) likewise.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**53))
        numbers = pc.if_else(whole, column, pa.scalar(None, column.type)).cast(pa.int64())
        column = pc.coalesce(numbers.cast(pa.string()), column.cast(pa.string()))
    ids = _cast(column, pa.string(), "ids", "strings or integers")
    blank = pc.equal(pc.utf8_trim_whitespace(ids), "")
    return pc.if_else(blank, pa.scalar(None, pa.string()), ids)


def _cast(column: pa.ChunkedArray, kind: pa.DataType, name: str, expected: str) -> pa.ChunkedArray:
    """Cast a column; InputError if its type is of another sort, which no row can help."""
    try:
        return column.cast(kind, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"{name} must be {expected}; this input has {column.type} ({error})"
        ) from None


def as_times(column: pa.ChunkedArray) -> pa.Array:
    """Return times as microseconds since 1970 in UTC; null what is not a time.

    Takes timestamps (without a zone: UTC), dates, seconds since 1970 and, in strings, such
    seconds or ISO 8601.
    """
    kind = column.type
    if pa.types.is_date(kind):
        return as_times(column.cast(pa.timestamp("s")))
    if pa.types.is_timestamp(kind) and kind.unit in _TICKS:
        # Far years would overflow as microseconds.
        return _microseconds(column.cast(pa.int64()).to_numpy() / _TICKS[kind.unit])
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).combine_chunks()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _microseconds(column.cast(pa.float64(), safe=False).to_numpy())
    texts = pc.utf8_trim_whitespace(_cast(column, pa.string(), "timestamp", "a time"))
    is_number = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), True)
    seconds = pc.if_else(is_number, texts, pa.scalar(None, pa.string())).cast(pa.float64())
    others = [_parse_time(text) for text in texts.filter(pc.invert(is_number)).to_pylist()]
    return pc.replace_with_mask(
        _microseconds(seconds.to_numpy()),
        pc.invert(is_number).combine_chunks(),
        pa.array(others, pa.int64()),
    )


def _microseconds(seconds: np.ndarray) -> pa.Array:
    # No date before the year 1 has a name. Far years (of milliseconds, say) are in the future
    # all the same when clipped to what fits.
    usable = np.isfinite(seconds) & (seconds >= _YEAR_1)
    rounded = np.round(np.where(usable, np.minimum(seconds, 9e11), 0) * 1e6)
    return pa.array(rounded.astype(np.int64), mask=~usable)


def _parse_time(text: str) -> int | None:
    if text.endswith(" UTC"):  # as BigQuery exports it
        text = text.removesuffix(" UTC") + "+00:00"
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=datetime.UTC)
    return (time - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(
        microseconds=1
    )


def as_numbers(column: pa.ChunkedArray) -> pa.Array:
    """Return numbers as float32; NaN what is not a finite number, null what is missing."""
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.float32())
    try:
        numbers = column.cast(pa.float64()).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        numbers = pa.array([_parse_number(value) for value in column.to_pylist()], pa.float64())
    numbers = numbers.cast(pa.float32())
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(math.nan, pa.float32()))


def _parse_number(value: object) -> float | None:
    if value is None:
        return None
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def validate_interactions(
    raw: pa.Table, known_items: pa.Array, latest: int
) -> tuple[pa.Table, pa.Table]:
    """Split raw interactions into usable and dead ones.

    Parameters
    ----------
    raw
        Columns user_id, item_id, timestamp, optional rating, of any fitting type.
    known_items
        [items] ids of the items that have metadata.
    latest
        Microseconds since 1970; what is later lies in the future.

    Returns
    -------
    The usable rows as INTERACTIONS (`item` is the position in known_items), the others as
    DEAD_ROWS.
    """
    if MALFORMED in raw.column_names:
        return col.INTERACTIONS.empty_table(), _malformed(raw, "interactions")
    users, items = as_ids(raw[col.USER_ID]), as_ids(raw[col.ITEM_ID])
    times = as_times(raw[col.TIMESTAMP])
    has_rating = col.RATING in raw.column_names
    ratings = as_numbers(raw[col.RATING]) if has_rating else pa.nulls(len(raw), pa.float32())
    index = pc.index_in(items, value_set=known_items)

    reasons = Reasons(raw.num_rows)
    reasons.add(NO_USER, pc.is_null(users))
    reasons.add(NO_ITEM, pc.is_null(items))
    reasons.add(NO_TIME, pc.is_null(raw[col.TIMESTAMP]))
    reasons.add(BAD_TIME, pc.is_null(times))
    reasons.add(FUTURE, pc.greater(times, latest))
    reasons.add(BAD_RATING, pc.is_nan(ratings))
    reasons.add(NO_METADATA, pc.is_null(index))
    # A time of the far future would not fit its type; it is dead already.
    table = pa.table(
        {
            col.USER_ID: users,
            col.ITEM_ID: items,
            col.TIMESTAMP: times.cast(pa.timestamp("us", tz="UTC")),
            col.RATING: ratings,
            col.ITEM: index,
        },
    ).filter(pa.array(reasons.usable))
    return table.cast(col.INTERACTIONS), reasons.dead_rows(raw, "interactions")


def positive(interactions: pa.Table, min_rating: float | None) -> pa.Table:
    """Keep the interactions in which the user engages: rating >= min_rating (None: all)."""
    if min_rating is None:
        return interactions
    # 3.3 as float32 is less than 3.3 as float64.
    least = pa.scalar(min_rating, pa.float32())
    return interactions.filter(pc.greater_equal(interactions[col.RATING], least))


def validate_items(raw: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Split raw items into usable and dead ones; duplicates are found by `drop_duplicates`.

    Returns
    -------
    The usable rows as VALID_ITEMS, the others as DEAD_ROWS.
    """
    if MALFORMED in raw.column_names:
        return VALID_ITEMS.empty_table(), _malformed(raw, "items")
    rows = raw.num_rows
    reasons = Reasons(rows)
    ids = as_ids(raw[col.ITEM_ID])
    reasons.add(NO_ITEM, pc.is_null(ids))
    titles, texts = _strings(raw, col.TITLE), _strings(raw, col.TEXT)
    keywords = _keywords(raw)
    if col.EMBEDDING in raw.column_names:
        embeddings = _cast(
            raw[col.EMBEDDING],
            pa.list_(pa.float32()),
            "the embeddings of items",
            "lists of numbers, as Parquet holds them and CSV can't",
        ).combine_chunks()
        reasons.add(NO_EMBEDDING, _to_numpy(pc.is_null(embeddings)) | _empty(embeddings))
        reasons.add(BAD_EMBEDDING, ~_finite(embeddings))
    else:
        embeddings = pa.nulls(rows, pa.list_(pa.float32()))
        without = [
            not (words or (title or "").strip() or (text or "").strip())
            for words, title, text in zip(keywords, titles, texts, strict=True)
        ]
        reasons.add(NO_TEXT, np.array(without, bool))
    eligible, unclear = _eligible(raw)
    reasons.add(BAD_ELIGIBLE, unclear)
    lines = [_line(row, "items", DUPLICATE_ITEM) for row in _rows(raw)]
    table = pa.table(
        [
            ids.combine_chunks(),
            pa.array(titles, pa.string()),
            pa.array(keywords, pa.list_(pa.string())),
            pa.array(texts, pa.string()),
            embeddings,
            eligible,
            raw[POSITION].combine_chunks(),
            pa.array(lines, pa.string()),
        ],
        schema=VALID_ITEMS,
    )
    return table.filter(pa.array(reasons.usable)), reasons.dead_rows(raw, "items")


def drop_duplicates(items: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Keep the first item of each id, by POSITION.

    Returns
    -------
    ITEMS sorted by item_id, and DEAD_ROWS.
    """
    items = items.sort_by([(col.ITEM_ID, "ascending"), (POSITION, "ascending")])
    ids = items[col.ITEM_ID].combine_chunks()
    first = np.ones(len(ids), bool)
    if len(ids) > 1:
        first[1:] = _to_numpy(pc.not_equal(ids[1:], ids[:-1]))
    again = items.filter(pa.array(~first))
    dead = pa.table(
        [again["line"], pa.array([DUPLICATE_ITEM] * again.num_rows, pa.string())],
        schema=col.DEAD_ROWS,
    )
    return items.filter(pa.array(first)).select(col.ITEMS.names), dead


def _malformed(raw: pa.Table, input_name: str) -> pa.Table:
    lines = [
        _json({"line": text, "input": input_name, "reason": MALFORMED_LINE})
        for text in raw[MALFORMED].to_pylist()
    ]
    return pa.table({"line": lines, "reason": [MALFORMED_LINE] * len(lines)}, schema=col.DEAD_ROWS)


def _values(raw: pa.Table, column: str) -> list[Any]:
    return raw[column].to_pylist() if column in raw.column_names else [None] * raw.num_rows


def _strings(raw: pa.Table, column: str) -> list[str | None]:
    if column not in raw.column_names:
        return [None] * raw.num_rows
    return _cast(raw[column], pa.string(), f"the column {column}", "a text").to_pylist()


def _keywords(raw: pa.Table) -> list[list[str]]:
    """Return the keywords of each row, given as a list or separated by commas."""
    listed = col.KEYWORDS in raw.column_names and pa.types.is_nested(raw[col.KEYWORDS].type)
    of_rows = (
        _values(raw, col.KEYWORDS)
        if listed
        else [text and text.split(",") for text in _strings(raw, col.KEYWORDS)]
    )
    return [
        [text for part in parts or [] if (text := str(part or "").strip())] for parts in of_rows
    ]


def _empty(lists: pa.Array) -> np.ndarray:
    return _to_numpy(pc.equal(pc.list_value_length(lists), 0))


def _finite(lists: pa.Array) -> np.ndarray:
    """[rows] bool: all numbers of the row's list are there and finite."""
    bad = pc.invert(pc.fill_null(pc.is_finite(pc.list_flatten(lists)), False))
    finite = np.ones(len(lists), bool)
    finite[pc.list_parent_indices(lists).filter(bad).to_numpy()] = False
    return finite


def _eligible(raw: pa.Table) -> tuple[pa.Array, np.ndarray]:
    """Return [rows] eligible, true where nothing is said, and where what is said is unclear."""
    words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    said = [
        True if value is None else words.get(str(value).strip().lower())
        for value in _values(raw, col.ELIGIBLE)
    ]
    return pa.array(said, pa.bool_()), np.array([value is None for value in said], bool)


class _Validate(beam.DoFn):
    """Applies a function table -> (usable, dead) and counts."""

    def __init__(self, check: Callable[..., tuple[pa.Table, pa.Table]], name: str) -> None:
        self._check = check
        self._read = Metrics.counter(name, "rows_read")
        self._dropped = Metrics.counter(name, "rows_dead")

    def process(self, raw: pa.Table, *side: Any) -> Iterator[Any]:
        usable, dead = self._check(raw, *side)
        self._read.inc(raw.num_rows)
        self._dropped.inc(dead.num_rows)
        yield beam.pvalue.TaggedOutput(TALLY, Tally(read=raw.num_rows, used=usable.num_rows))
        if dead.num_rows:
            yield beam.pvalue.TaggedOutput(DEAD, dead)
        if usable.num_rows:
            yield usable


@dataclass(eq=False)
class ValidateInteractions(beam.PTransform):
    """Raw tables -> INTERACTIONS of known items.

    Outputs `usable`, DEAD (DEAD_ROWS) and TALLY. The side input is a tuple that begins with the
    ids of the known items, a string array [items].
    """

    known_items: beam.pvalue.AsSingleton
    latest: int  # microseconds since 1970

    def expand(self, raw: beam.PCollection[pa.Table]) -> Any:
        latest = self.latest

        def check(table: pa.Table, known: tuple[pa.Array, Any]) -> tuple[pa.Table, pa.Table]:
            return validate_interactions(table, known[0], latest)

        return raw | beam.ParDo(
            _Validate(check, "interactions"), self.known_items
        ).with_output_types(pa.Table).with_outputs(DEAD, TALLY, main="usable")


class ValidateItems(beam.PTransform):
    """Raw tables -> items as `validate_items` returns them; outputs as ValidateInteractions."""

    def expand(self, raw: beam.PCollection[pa.Table]) -> Any:
        return raw | beam.ParDo(_Validate(validate_items, "items")).with_output_types(
            pa.Table
        ).with_outputs(DEAD, TALLY, main="usable")


class DropDuplicates(beam.PTransform):
    """(shard, VALID_ITEMS) -> (shard, ITEMS) with each id once; outputs as ValidateItems."""

    def expand(self, items: beam.PCollection[tuple[int, pa.Table]]) -> Any:
        return items | beam.FlatMapTuple(_first_of_each).with_output_types(
            tuple[int, pa.Table]
        ).with_outputs(DEAD, TALLY, main="usable")


def _first_of_each(shard: int, items: pa.Table) -> Iterator[Any]:
    first, dead = drop_duplicates(items)
    Metrics.counter("items", "duplicates").inc(dead.num_rows)
    # They had been counted as used.
    yield beam.pvalue.TaggedOutput(TALLY, Tally(used=-dead.num_rows))
    yield beam.pvalue.TaggedOutput(DEAD, dead)
    yield shard, first
