"""Splits rows of the input into usable rows and dead rows, which have a reason.

The functions check a whole batch at once. The PTransforms over them separate dead rows and count
rows, so that read = used + dead.
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
from transforms.inputs import parse, reasons
from transforms.inputs.dead_letter import RowReasons, dead_lines
from transforms.inputs.input_format import COLUMNS, MALFORMED, POSITION, STANDARD, InputFormat
from transforms.inputs.parse_times import Notes, read_times
from transforms.storage.manifest import RowCounts
from transforms.tables.shuffle import Spill, table_of

DEAD = "dead"
ROW_COUNTS = "row_counts"
DUPLICATES = "duplicates"

WHOLE_IDS = "ids that are whole numbers with decimals, such as 7.0, are read as integers"

# Valid items before duplicates are dropped. POSITION tells which of two rows was first.
VALID_ITEMS = col.ITEMS.append(pa.field(POSITION, pa.int64()))


def validate_interactions(
    raw: pa.Table,
    known_items: pa.Array,
    latest: int,
    written: InputFormat = STANDARD,
    needs_rating: bool = False,
) -> tuple[pa.Table, pa.Table, Notes]:
    """Split raw interactions into INTERACTIONS and DEAD_ROWS, with notes on how they were read.

    Parameters
    ----------
    raw
        Columns user_id, item_id, timestamp, optional rating, of any fitting type.
    known_items
        [items] ids; `item` of INTERACTIONS is the position in it.
    latest
        Microseconds since 1970. Later interactions are in the future.
    written
        How the input is written.
    needs_rating
        Whether a missing rating makes a row dead.
    """
    if MALFORMED in raw.column_names:
        return col.INTERACTIONS.empty_table(), dead_lines(raw, "interactions"), Notes()
    rows, why = written.select(raw, COLUMNS["interactions"]), RowReasons(raw.num_rows)
    (users, of_users), (items, of_items) = (
        parse.as_ids(rows[name], written.name_of(name)) for name in (col.USER_ID, col.ITEM_ID)
    )
    times, notes = read_times(rows[col.TIMESTAMP], written.timestamp_unit, written.timestamp_format)
    notes += Notes({WHOLE_IDS: of_users + of_items})
    has_rating = col.RATING in rows.column_names
    ratings = parse.as_numbers(rows[col.RATING]) if has_rating else pa.nulls(len(raw), pa.float32())
    index = pc.index_in(items, value_set=known_items)

    for name, parsed in ((col.USER_ID, users), (col.ITEM_ID, items)):
        if parsed.null_count:  # text that is not UTF-8 became null
            why.add(reasons.NOT_UTF8, parse.not_utf8(rows[name]))
            why.add(reasons.INEXACT_ID, parse.inexact(rows[name]))
    for name in (col.TIMESTAMP, *([col.RATING] if has_rating else [])):
        why.add(reasons.NOT_UTF8, parse.not_utf8(rows[name]))
    why.add(reasons.NUL_BYTE, pc.match_substring(users, "\0"))
    why.add(reasons.NO_USER, pc.is_null(users))
    if written.anonymous_users:
        anonymous = pa.array(written.anonymous_users, pa.string())
        why.add(reasons.ANONYMOUS, pc.is_in(users, anonymous))
    why.add(reasons.NO_ITEM, pc.is_null(items))
    if times.null_count:
        why.add(reasons.NO_TIME, parse.missing(rows[col.TIMESTAMP]))
        why.add(reasons.BAD_TIME, pc.is_null(times))
    why.add(reasons.FUTURE, pc.greater(times, latest))
    why.add(reasons.BAD_RATING, pc.is_nan(ratings))
    if needs_rating:
        why.add(reasons.NO_RATING, pc.is_null(ratings))
    why.add(reasons.NO_METADATA, pc.is_null(index))
    columns = [users, times.cast(col.TIME_TYPE), ratings, index]
    table = pa.table(columns, schema=col.INTERACTIONS)
    if not (usable := why.usable).all():
        table = table.filter(pa.array(usable))
    return table, why.dead_rows(raw, "interactions"), notes


def validate_items(
    raw: pa.Table, written: InputFormat = STANDARD
) -> tuple[pa.Table, pa.Table, Notes]:
    """Split raw items into VALID_ITEMS and DEAD_ROWS, with notes on how they were read.

    `drop_duplicates` finds duplicates.
    """
    if MALFORMED in raw.column_names:
        return VALID_ITEMS.empty_table(), dead_lines(raw, "items"), Notes()
    rows, why = written.select(raw, COLUMNS["items"]), RowReasons(raw.num_rows)
    for name in (col.ITEM_ID, col.TITLE, col.TEXT, col.KEYWORDS, col.ELIGIBLE):
        why.add(reasons.NOT_UTF8, parse.not_utf8(_column(rows, name)))
    ids, whole = parse.as_ids(rows[col.ITEM_ID], written.name_of(col.ITEM_ID))
    why.add(reasons.INEXACT_ID, parse.inexact(rows[col.ITEM_ID]))
    why.add(reasons.NUL_BYTE, pc.match_substring(ids, "\0"))
    why.add(reasons.NO_ITEM, pc.is_null(ids))
    titles, texts = (
        parse.as_texts(_column(rows, name), f"the column {name}") for name in (col.TITLE, col.TEXT)
    )
    keywords = pa.array(parse.as_keywords(_column(rows, col.KEYWORDS)), pa.list_(pa.string()))
    embeddings = parse.as_embeddings(_column(rows, col.EMBEDDING))
    if col.EMBEDDING in rows.column_names:
        lengths = pc.fill_null(pc.list_value_length(embeddings), 0)
        why.add(reasons.NO_EMBEDDING, pc.equal(lengths, 0))
        why.add(reasons.BAD_EMBEDDING, ~parse.all_finite(embeddings))
    else:
        without = pc.equal(pc.list_value_length(keywords), 0)
        for column in (titles, texts):
            blank = pc.equal(pc.utf8_trim_whitespace(column), "")
            without = pc.and_(without, pc.fill_null(blank, True))
        why.add(reasons.NO_TEXT, without)
    eligible = parse.as_eligible(_column(rows, col.ELIGIBLE))
    why.add(reasons.BAD_ELIGIBLE, pc.is_null(eligible))
    table = pa.table(
        [ids, titles, keywords, texts, embeddings, eligible, rows[POSITION]], schema=VALID_ITEMS
    )
    dead = why.dead_rows(raw, "items")
    return table.filter(pa.array(why.usable)), dead, Notes({WHOLE_IDS: whole})


def _column(raw: pa.Table, name: str) -> pa.ChunkedArray:
    """Return an optional column, or nulls."""
    return raw[name] if name in raw.column_names else pa.chunked_array([pa.nulls(raw.num_rows)])


def drop_duplicates(items: pa.Table, ordered: bool = True) -> tuple[pa.Table, np.ndarray]:
    """Keep one row of VALID_ITEMS for each id.

    The first row by POSITION is kept if rows are `ordered`. Otherwise the content decides, so that
    the same rows in another order give the same items.

    Returns
    -------
    ITEMS sorted by item_id, and the positions of the dropped rows, [duplicates] int64.
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
    """[items] bool: the id differs from the id of the row before."""
    ids = items[col.ITEM_ID].combine_chunks()
    begins = np.ones(len(ids), bool)
    if len(ids) > 1:
        begins[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return begins


def _content_ranks(items: pa.Table, begins: np.ndarray) -> np.ndarray:
    """[items] int64: the rank by content of rows with a repeated id; 0 for other rows."""
    again = np.flatnonzero(~begins | ~np.append(begins[1:], True))
    contents = [repr(row) for row in items.take(again).select(col.ITEMS.names).to_pylist()]
    ranks = np.zeros(len(items), np.int64)
    ranks[again] = np.unique(contents, return_inverse=True)[1]
    return ranks


def dead_duplicates(raw: pa.Table, positions: list[np.ndarray]) -> pa.Table:
    """Return the DEAD_ROWS of raw items at the positions that `drop_duplicates` dropped."""
    if MALFORMED in raw.column_names:
        return col.DEAD_ROWS.empty_table()
    why = RowReasons(raw.num_rows)
    again = np.concatenate([np.empty(0, np.int64), *positions])
    why.add(reasons.DUPLICATE_ITEM, np.isin(raw[POSITION].to_numpy(), again))
    return why.dead_rows(raw, "items")


class _Validate(beam.DoFn):
    """Applies a function table -> (usable, dead, notes), and counts for a transform."""

    def __init__(
        self,
        check: Callable[..., tuple[pa.Table, pa.Table, Notes]],
        transform: type[beam.PTransform],
    ) -> None:
        self._check = check
        self._read = Metrics.counter(transform, "rows_read")
        self._dropped = Metrics.counter(transform, "rows_dead")

    def process(self, raw: pa.Table, *side: Any) -> Iterator[Any]:
        usable, dead, notes = self._check(raw, *side)
        self._read.inc(raw.num_rows)
        self._dropped.inc(dead.num_rows)
        yield beam.pvalue.TaggedOutput(
            ROW_COUNTS, RowCounts(read=raw.num_rows, used=usable.num_rows, notes=notes)
        )
        if dead.num_rows:
            yield beam.pvalue.TaggedOutput(DEAD, dead)
        if usable.num_rows:
            yield usable


@dataclass(eq=False)
class ValidateInteractions(beam.PTransform):
    """Raw tables -> INTERACTIONS of known items; outputs `usable`, DEAD and ROW_COUNTS.

    The side input is a tuple that begins with the known item ids, a string array [items].
    """

    known_items: beam.pvalue.AsSingleton
    latest: int  # microseconds since 1970
    written: InputFormat = STANDARD
    needs_rating: bool = False  # whether a missing rating makes a row dead

    def expand(self, raw: beam.PCollection[pa.Table]) -> Any:
        settings = (self.latest, self.written, self.needs_rating)

        def check(table: pa.Table, known: tuple[pa.Array, Any]) -> tuple[pa.Table, pa.Table, Notes]:
            return validate_interactions(table, known[0], *settings)

        return raw | beam.ParDo(
            _Validate(check, ValidateInteractions), self.known_items
        ).with_output_types(pa.Table).with_outputs(DEAD, ROW_COUNTS, main="usable")


@dataclass(eq=False)
class ValidateItems(beam.PTransform):
    """Raw tables -> VALID_ITEMS; outputs `usable`, DEAD and ROW_COUNTS."""

    written: InputFormat = STANDARD

    def expand(self, raw: beam.PCollection[pa.Table]) -> Any:
        written = self.written

        def check(table: pa.Table) -> tuple[pa.Table, pa.Table, Notes]:
            return validate_items(table, written)

        return raw | beam.ParDo(_Validate(check, ValidateItems)).with_output_types(
            pa.Table
        ).with_outputs(DEAD, ROW_COUNTS, main="usable")


@dataclass(eq=False)
class DropDuplicates(beam.PTransform):
    """(shard, VALID_ITEMS) -> (shard, ITEMS) with unique ids.

    Outputs `usable`, DUPLICATES (arrays of positions, for DeadDuplicates) and ROW_COUNTS.
    """

    ordered: bool  # as in drop_duplicates

    def expand(self, items: beam.PCollection[tuple[int, pa.Table]]) -> Any:
        return items | beam.FlatMapTuple(self._drop).with_output_types(
            tuple[int, pa.Table]
        ).with_outputs(DUPLICATES, ROW_COUNTS, main="usable")

    def _drop(self, shard: int, items: pa.Table) -> Iterator[Any]:
        kept, positions = drop_duplicates(items, self.ordered)
        Metrics.counter(DropDuplicates, "duplicates").inc(len(positions))
        # ValidateItems counted them as used.
        yield beam.pvalue.TaggedOutput(ROW_COUNTS, RowCounts(used=-len(positions)))
        if len(positions):
            yield beam.pvalue.TaggedOutput(DUPLICATES, positions)
        yield shard, kept


@dataclass(eq=False)
class DeadDuplicates(beam.PTransform):
    """Raw tables, as given to ValidateItems -> DEAD_ROWS of the duplicates in them.

    Duplicates are few and known only after the shuffle. Reading them again from the raw tables is
    cheaper than a dead-letter line with every item in the shuffle.
    """

    positions: beam.pvalue.AsList  # the DUPLICATES of DropDuplicates

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
