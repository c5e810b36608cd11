"""Which rows of the input can be used, and why the others can't.

The functions check a whole batch at once; the PTransforms send what can't be used to the dead
letter and count, so that read = used + dead.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from transforms import schemas as col
from transforms.inputs.dead_letter import (
    BAD_ELIGIBLE,
    BAD_EMBEDDING,
    BAD_RATING,
    BAD_TIME,
    DUPLICATE_ITEM,
    FUTURE,
    MALFORMED_LINE,
    NO_EMBEDDING,
    NO_ITEM,
    NO_METADATA,
    NO_TEXT,
    NO_TIME,
    NO_USER,
    NOT_UTF8,
    RowReasons,
)
from transforms.inputs.parse import (
    all_finite,
    as_eligible,
    as_embeddings,
    as_ids,
    as_keywords,
    as_numbers,
    as_texts,
    as_times,
    not_utf8,
)
from transforms.inputs.read_files import MALFORMED, POSITION
from transforms.storage.manifest import RowCounts
from transforms.tables.shuffle import Spill, table_of

DEAD = "dead"
TALLY = "tally"
DUPLICATES = "duplicates"

# Usable on their own; POSITION tells which of two with the same id was first.
VALID_ITEMS = col.ITEMS.append(pa.field(POSITION, pa.int64()))


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
    reasons = RowReasons(raw.num_rows)
    if MALFORMED in raw.column_names:
        reasons.add(MALFORMED_LINE, pc.is_valid(raw[MALFORMED]))
        return col.INTERACTIONS.empty_table(), reasons.dead_rows(raw, "interactions")
    users, items = as_ids(raw[col.USER_ID]), as_ids(raw[col.ITEM_ID])
    times = as_times(raw[col.TIMESTAMP])
    has_rating = col.RATING in raw.column_names
    ratings = as_numbers(raw[col.RATING]) if has_rating else pa.nulls(len(raw), pa.float32())
    index = pc.index_in(items, value_set=known_items)

    for name, parsed in ((col.USER_ID, users), (col.ITEM_ID, items)):
        if parsed.null_count:  # as all that is not UTF-8
            reasons.add(NOT_UTF8, not_utf8(raw[name]))
    for name in (col.TIMESTAMP, *([col.RATING] if has_rating else [])):
        reasons.add(NOT_UTF8, not_utf8(raw[name]))
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
            col.TIMESTAMP: times.cast(col.TIME_TYPE),
            col.RATING: ratings,
            col.ITEM: index,
        },
        schema=col.INTERACTIONS,
    )
    if not (usable := reasons.usable).all():
        table = table.filter(pa.array(usable))
    return table, reasons.dead_rows(raw, "interactions")


def filter_engagements(interactions: pa.Table, min_rating: float | None) -> pa.Table:
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
    reasons = RowReasons(raw.num_rows)
    if MALFORMED in raw.column_names:
        reasons.add(MALFORMED_LINE, pc.is_valid(raw[MALFORMED]))
        return VALID_ITEMS.empty_table(), reasons.dead_rows(raw, "items")
    for name in (col.ITEM_ID, col.TITLE, col.TEXT, col.KEYWORDS, col.ELIGIBLE):
        reasons.add(NOT_UTF8, not_utf8(_column(raw, name)))
    ids = as_ids(raw[col.ITEM_ID])
    reasons.add(NO_ITEM, pc.is_null(ids))
    titles, texts = (
        as_texts(_column(raw, name), f"the column {name}") for name in (col.TITLE, col.TEXT)
    )
    keywords = pa.array(as_keywords(_column(raw, col.KEYWORDS)), pa.list_(pa.string()))
    embeddings = as_embeddings(_column(raw, col.EMBEDDING))
    if col.EMBEDDING in raw.column_names:
        lengths = pc.fill_null(pc.list_value_length(embeddings), 0)
        reasons.add(NO_EMBEDDING, pc.equal(lengths, 0))
        reasons.add(BAD_EMBEDDING, ~all_finite(embeddings))
    else:
        without = pc.equal(pc.list_value_length(keywords), 0)
        for column in (titles, texts):
            blank = pc.equal(pc.utf8_trim_whitespace(column), "")
            without = pc.and_(without, pc.fill_null(blank, True))
        reasons.add(NO_TEXT, without)
    eligible = as_eligible(_column(raw, col.ELIGIBLE))
    reasons.add(BAD_ELIGIBLE, pc.is_null(eligible))
    table = pa.table(
        [ids, titles, keywords, texts, embeddings, eligible, raw[POSITION]], schema=VALID_ITEMS
    )
    return table.filter(pa.array(reasons.usable)), reasons.dead_rows(raw, "items")


def _column(raw: pa.Table, name: str) -> pa.ChunkedArray:
    """Return an optional column; nulls if it is not there."""
    return raw[name] if name in raw.column_names else pa.chunked_array([pa.nulls(raw.num_rows)])


def drop_duplicates(items: pa.Table, ordered: bool = True) -> tuple[pa.Table, np.ndarray]:
    """Keep one item of each id.

    Parameters
    ----------
    items
        VALID_ITEMS.
    ordered
        Whether POSITION tells which was first, and so is kept. If not, the one whose content comes
        first in an order of ours is, so that the same rows give the same items.

    Returns
    -------
    ITEMS sorted by item_id, and the positions of the others, [duplicates] int64.
    """
    items = items.sort_by([(col.ITEM_ID, "ascending"), (POSITION, "ascending")])
    first = _begins_group(items)
    if not ordered and not first.all():
        ranked = items.append_column("rank", pa.array(_content_ranks(items, first)))
        by = [(name, "ascending") for name in (col.ITEM_ID, "rank", POSITION)]
        items = ranked.sort_by(by).select(VALID_ITEMS.names)
    kept = items.filter(pa.array(first)).select(col.ITEMS.names)
    return kept, items[POSITION].to_numpy()[~first]


def _begins_group(items: pa.Table) -> np.ndarray:
    """[items] bool: the item's id is another than that of the item before it."""
    ids = items[col.ITEM_ID].combine_chunks()
    begins = np.ones(len(ids), bool)
    if len(ids) > 1:
        begins[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return begins


def _content_ranks(items: pa.Table, begins: np.ndarray) -> np.ndarray:
    """[items] int64: the rank by content of items whose id occurs again; 0 for the others."""
    again = np.flatnonzero(~begins | ~np.append(begins[1:], True))
    contents = [repr(row) for row in items.take(again).select(col.ITEMS.names).to_pylist()]
    ranks = np.zeros(len(items), np.int64)
    ranks[again] = np.unique(contents, return_inverse=True)[1]
    return ranks


def dead_duplicates(raw: pa.Table, positions: list[np.ndarray]) -> pa.Table:
    """Return the raw items at positions that `drop_duplicates` found, as DEAD_ROWS."""
    reasons = RowReasons(raw.num_rows)
    again = np.concatenate([np.empty(0, np.int64), *positions])
    reasons.add(DUPLICATE_ITEM, np.isin(raw[POSITION].to_numpy(), again))
    return reasons.dead_rows(raw, "items")


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
        yield beam.pvalue.TaggedOutput(TALLY, RowCounts(read=raw.num_rows, used=usable.num_rows))
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


@dataclass(eq=False)
class DropDuplicates(beam.PTransform):
    """(shard, VALID_ITEMS) -> (shard, ITEMS) with each id once.

    Outputs `usable`, DUPLICATES (arrays of positions, for DeadDuplicates) and TALLY.
    """

    ordered: bool  # as in drop_duplicates

    def expand(self, items: beam.PCollection[tuple[int, pa.Table]]) -> Any:
        ordered = self.ordered
        return items | beam.FlatMapTuple(
            lambda shard, table: _one_of_each(shard, table, ordered)
        ).with_output_types(tuple[int, pa.Table]).with_outputs(DUPLICATES, TALLY, main="usable")


def _one_of_each(shard: int, items: pa.Table, ordered: bool) -> Iterator[Any]:
    kept, positions = drop_duplicates(items, ordered)
    Metrics.counter("items", "duplicates").inc(len(positions))
    # They had been counted as used.
    yield beam.pvalue.TaggedOutput(TALLY, RowCounts(used=-len(positions)))
    if len(positions):
        yield beam.pvalue.TaggedOutput(DUPLICATES, positions)
    yield shard, kept


@dataclass(eq=False)
class DeadDuplicates(beam.PTransform):
    """Raw tables, the ones ValidateItems had -> DEAD_ROWS of the duplicates among them.

    The side input is the DUPLICATES of DropDuplicates. Rows are fetched from the raw tables
    again because the few duplicates are known only after the shuffle, and carrying every item's
    dead-letter line through it would cost many times the items themselves.
    """

    positions: beam.pvalue.AsList

    def expand(self, raw: beam.PCollection[pa.Table]) -> beam.PCollection[pa.Table]:
        return (
            raw
            | "Key" >> beam.Map(lambda table: (0, table)).with_output_types(tuple[int, pa.Table])
            | "Spill" >> Spill()
            | "Duplicates"
            >> beam.Map(
                lambda keyed, positions: dead_duplicates(table_of(keyed[1]), positions),
                self.positions,
            ).with_output_types(pa.Table)
            | "NotEmpty" >> beam.Filter(lambda dead: dead.num_rows > 0)
        )
