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
from transforms.inputs import dead_letter, parse
from transforms.inputs.dead_letter import RowReasons
from transforms.inputs.read_files import MALFORMED, POSITION
from transforms.storage.manifest import RowCounts
from transforms.tables.shuffle import Spill, table_of

DEAD = "dead"
ROW_COUNTS = "row_counts"
DUPLICATES = "duplicates"

# Valid items before duplicates are dropped. POSITION tells which of two rows was first.
VALID_ITEMS = col.ITEMS.append(pa.field(POSITION, pa.int64()))


def validate_interactions(
    raw: pa.Table, known_items: pa.Array, latest: int
) -> tuple[pa.Table, pa.Table]:
    """Split raw interactions into INTERACTIONS and DEAD_ROWS.

    Parameters
    ----------
    raw
        Columns user_id, item_id, timestamp, optional rating, of any fitting type.
    known_items
        [items] ids; `item` of INTERACTIONS is the position in it.
    latest
        Microseconds since 1970. Later interactions are in the future.
    """
    reasons = RowReasons(raw.num_rows)
    if MALFORMED in raw.column_names:
        reasons.add(dead_letter.MALFORMED_LINE, pc.is_valid(raw[MALFORMED]))
        return col.INTERACTIONS.empty_table(), reasons.dead_rows(raw, "interactions")
    users, items = parse.as_ids(raw[col.USER_ID]), parse.as_ids(raw[col.ITEM_ID])
    times = parse.as_times(raw[col.TIMESTAMP])
    has_rating = col.RATING in raw.column_names
    ratings = parse.as_numbers(raw[col.RATING]) if has_rating else pa.nulls(len(raw), pa.float32())
    index = pc.index_in(items, value_set=known_items)

    for name, parsed in ((col.USER_ID, users), (col.ITEM_ID, items)):
        if parsed.null_count:  # text that is not UTF-8 became null
            reasons.add(dead_letter.NOT_UTF8, parse.not_utf8(raw[name]))
    for name in (col.TIMESTAMP, *([col.RATING] if has_rating else [])):
        reasons.add(dead_letter.NOT_UTF8, parse.not_utf8(raw[name]))
    reasons.add(dead_letter.NO_USER, pc.is_null(users))
    reasons.add(dead_letter.NO_ITEM, pc.is_null(items))
    reasons.add(dead_letter.NO_TIME, pc.is_null(raw[col.TIMESTAMP]))
    reasons.add(dead_letter.BAD_TIME, pc.is_null(times))
    reasons.add(dead_letter.FUTURE, pc.greater(times, latest))
    reasons.add(dead_letter.BAD_RATING, pc.is_nan(ratings))
    reasons.add(dead_letter.NO_METADATA, pc.is_null(index))
    columns = [users, times.cast(col.TIME_TYPE), ratings, index]
    table = pa.table(columns, schema=col.INTERACTIONS)
    if not (usable := reasons.usable).all():
        table = table.filter(pa.array(usable))
    return table, reasons.dead_rows(raw, "interactions")


def validate_items(raw: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Split raw items into VALID_ITEMS and DEAD_ROWS; `drop_duplicates` finds duplicates."""
    reasons = RowReasons(raw.num_rows)
    if MALFORMED in raw.column_names:
        reasons.add(dead_letter.MALFORMED_LINE, pc.is_valid(raw[MALFORMED]))
        return VALID_ITEMS.empty_table(), reasons.dead_rows(raw, "items")
    for name in (col.ITEM_ID, col.TITLE, col.TEXT, col.KEYWORDS, col.ELIGIBLE):
        reasons.add(dead_letter.NOT_UTF8, parse.not_utf8(_column(raw, name)))
    ids = parse.as_ids(raw[col.ITEM_ID])
    reasons.add(dead_letter.NO_ITEM, pc.is_null(ids))
    titles, texts = (
        parse.as_texts(_column(raw, name), f"the column {name}") for name in (col.TITLE, col.TEXT)
    )
    keywords = pa.array(parse.as_keywords(_column(raw, col.KEYWORDS)), pa.list_(pa.string()))
    embeddings = parse.as_embeddings(_column(raw, col.EMBEDDING))
    if col.EMBEDDING in raw.column_names:
        lengths = pc.fill_null(pc.list_value_length(embeddings), 0)
        reasons.add(dead_letter.NO_EMBEDDING, pc.equal(lengths, 0))
        reasons.add(dead_letter.BAD_EMBEDDING, ~parse.all_finite(embeddings))
    else:
        without = pc.equal(pc.list_value_length(keywords), 0)
        for column in (titles, texts):
            blank = pc.equal(pc.utf8_trim_whitespace(column), "")
            without = pc.and_(without, pc.fill_null(blank, True))
        reasons.add(dead_letter.NO_TEXT, without)
    eligible = parse.as_eligible(_column(raw, col.ELIGIBLE))
    reasons.add(dead_letter.BAD_ELIGIBLE, pc.is_null(eligible))
    table = pa.table(
        [ids, titles, keywords, texts, embeddings, eligible, raw[POSITION]], schema=VALID_ITEMS
    )
    return table.filter(pa.array(reasons.usable)), reasons.dead_rows(raw, "items")


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
    reasons = RowReasons(raw.num_rows)
    again = np.concatenate([np.empty(0, np.int64), *positions])
    reasons.add(dead_letter.DUPLICATE_ITEM, np.isin(raw[POSITION].to_numpy(), again))
    return reasons.dead_rows(raw, "items")


class _Validate(beam.DoFn):
    """Applies a function table -> (usable, dead), and counts for a transform."""

    def __init__(
        self, check: Callable[..., tuple[pa.Table, pa.Table]], transform: type[beam.PTransform]
    ) -> None:
        self._check = check
        self._read = Metrics.counter(transform, "rows_read")
        self._dropped = Metrics.counter(transform, "rows_dead")

    def process(self, raw: pa.Table, *side: Any) -> Iterator[Any]:
        usable, dead = self._check(raw, *side)
        self._read.inc(raw.num_rows)
        self._dropped.inc(dead.num_rows)
        yield beam.pvalue.TaggedOutput(
            ROW_COUNTS, RowCounts(read=raw.num_rows, used=usable.num_rows)
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

    def expand(self, raw: beam.PCollection[pa.Table]) -> Any:
        latest = self.latest

        def check(table: pa.Table, known: tuple[pa.Array, Any]) -> tuple[pa.Table, pa.Table]:
            return validate_interactions(table, known[0], latest)

        return raw | beam.ParDo(
            _Validate(check, ValidateInteractions), self.known_items
        ).with_output_types(pa.Table).with_outputs(DEAD, ROW_COUNTS, main="usable")


class ValidateItems(beam.PTransform):
    """Raw tables -> VALID_ITEMS; outputs `usable`, DEAD and ROW_COUNTS."""

    def expand(self, raw: beam.PCollection[pa.Table]) -> Any:
        return raw | beam.ParDo(_Validate(validate_items, ValidateItems)).with_output_types(
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
