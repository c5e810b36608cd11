"""Valid rows are used; each invalid row is dead, with one reason."""

import datetime
import json
import math

import apache_beam as beam
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.eager import run
from transforms import schemas as col
from transforms.inputs import reasons as why
from transforms.inputs import validate
from transforms.inputs.input_format import MALFORMED, POSITION, REASON, STANDARD, InputFormat
from transforms.inputs.validate import (
    validate_interactions,
    validate_items,
)
from transforms.storage.manifest import RowCounts

NOON = datetime.datetime(2024, 5, 6, 12, 0, 0, 250_000, tzinfo=datetime.UTC)
MICROSECONDS = round(NOON.timestamp() * 1e6)
LATEST = MICROSECONDS + 1
KNOWN = pa.array(["a", "b"])


def raw(**columns: list | pa.Array) -> pa.Table:
    """Return a table as ReadTables gives it."""
    table = pa.table(columns)
    return table.append_column(POSITION, pa.array(range(table.num_rows), pa.int64()))


def one(**changes: object) -> pa.Table:
    """Return a usable interaction with changes."""
    row = {"user_id": "u", "item_id": "a", "timestamp": NOON, "rating": 4.0} | changes
    return raw(**{name: [value] for name, value in row.items()})


def reasons(table: pa.Table, written: InputFormat = STANDARD, **options: bool) -> list[str]:
    usable, dead, _ = validate_interactions(table, KNOWN, LATEST, written, **options)
    assert usable.schema == col.INTERACTIONS
    assert dead.schema == col.DEAD_ROWS
    assert usable.num_rows + dead.num_rows == table.num_rows
    return dead["reason"].to_pylist()


@pytest.mark.parametrize("scale", [10**3, 10**6, 10**9])
@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("s", "UTC")])
def test_a_type_that_says_seconds_is_believed(scale: int, kind: pa.DataType) -> None:
    times = pa.array([1_714_996_800 * scale], pa.int64()).cast(kind)
    assert reasons(raw(user_id=["u"], item_id=["a"], timestamp=times)) == [why.FUTURE]


# Interactions.


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_id": None}, why.NO_USER),
        ({"user_id": ""}, why.NO_USER),
        ({"user_id": "  "}, why.NO_USER),
        ({"item_id": None}, why.NO_ITEM),
        ({"item_id": ""}, why.NO_ITEM),
        ({"timestamp": None}, why.NO_TIME),
        ({"user_id": "NULL"}, why.NO_USER),
        ({"item_id": "nan"}, why.NO_ITEM),
        ({"user_id": 2.0**60}, why.INEXACT_ID),
        ({"user_id": "u\0"}, why.NUL_BYTE),
        ({"timestamp": "\\N"}, why.NO_TIME),
        ({"timestamp": math.nan}, why.NO_TIME),
        ({"timestamp": "soon"}, why.BAD_TIME),
        ({"timestamp": NOON + datetime.timedelta(seconds=1)}, why.FUTURE),
        ({"rating": math.nan}, why.BAD_RATING),
        ({"rating": math.inf}, why.BAD_RATING),
        ({"rating": "great"}, why.BAD_RATING),
        ({"item_id": "unknown"}, why.NO_METADATA),
    ],
)
def test_an_unusable_interaction_has_its_reason(changes: dict, reason: str) -> None:
    assert reasons(one(**changes)) == [reason]


def test_a_usable_interaction_is_typed_and_knows_its_item() -> None:
    usable, dead, _ = validate_interactions(one(item_id="b"), KNOWN, LATEST)
    assert dead.num_rows == 0
    assert usable.to_pylist() == [{"user_id": "u", "timestamp": NOON, "rating": 4.0, "item": 1}]


@pytest.mark.parametrize("rating", [[None], None])
def test_a_rating_may_be_missing(rating: list | None) -> None:
    table = one() if rating else one().drop_columns(["rating"])
    assert reasons(table) == []


@pytest.mark.parametrize("rating", [None, "NULL"])
def test_a_missing_rating_is_dead_where_ratings_decide(rating: object) -> None:
    assert reasons(one(rating=rating), needs_rating=True) == [why.NO_RATING]
    assert reasons(one(rating=rating)) == []


def test_users_that_stand_for_no_user_are_dead() -> None:
    table = raw(user_id=[0, -1, 1], item_id=["a"] * 3, timestamp=[NOON] * 3)
    assert reasons(table, InputFormat(anonymous_users=("0", "-1"))) == [why.ANONYMOUS] * 2


def test_columns_of_other_names_are_used_and_shown_as_they_are_called() -> None:
    table = raw(visitor=["u", None], asin=["a", "a"], ts=["06/05/2024"] * 2, user_id=["x", "y"])
    names = (("user_id", "visitor"), ("item_id", "asin"), ("timestamp", "ts"))
    written = InputFormat(columns=names, timestamp_format="%d/%m/%Y")
    usable, dead, _ = validate_interactions(table, KNOWN, LATEST, written)
    assert usable["user_id"].to_pylist() == ["u"]
    assert json.loads(dead["line"][0].as_py()) == {
        "visitor": None,
        "asin": "a",
        "ts": "06/05/2024",
        "user_id": "y",
        "input": "interactions",
        "reason": why.NO_USER,
    }


def test_ids_with_decimals_are_noted() -> None:
    table = raw(user_id=["1.0", "2"], item_id=["a", "a"], timestamp=[NOON] * 2)
    assert validate_interactions(table, KNOWN, LATEST)[2] == {validate.WHOLE_IDS: 1}


def test_a_row_has_one_reason_the_first() -> None:
    assert reasons(one(user_id=None, item_id="", timestamp="soon")) == [why.NO_USER]


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary_view()])
@pytest.mark.parametrize("column", ["user_id", "item_id", "timestamp", "rating"])
def test_bytes_that_are_not_utf8_are_dead(column: str, kind: pa.DataType) -> None:
    table = raw(
        **{"user_id": ["u"] * 2, "item_id": ["a"] * 2, "timestamp": ["12"] * 2, "rating": ["4"] * 2}
        | {column: pa.array([{"item_id": b"a"}.get(column, b"4"), b"\xff"], kind)}
    )
    usable, dead, _ = validate_interactions(table, KNOWN, LATEST)
    assert usable.num_rows == 1
    assert dead["reason"].to_pylist() == [why.NOT_UTF8]
    assert json.loads(dead["line"][0].as_py())[column] == "ff"


def test_a_malformed_line_is_dead() -> None:
    text = 'a,"b'
    for check in (lambda table: validate_interactions(table, KNOWN, LATEST), validate_items):
        usable, dead, _ = check(raw(**{MALFORMED: [text], REASON: ["why"]}))
        assert usable.num_rows == 0
        line = json.loads(dead["line"][0].as_py())
        assert (line["line"], line["reason"]) == (text, "why")


anything = st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["a", "1", "2024-01-01"]))


@given(st.lists(st.tuples(anything, anything, anything, anything), max_size=20))
def test_no_strings_break_validation_and_every_row_is_accounted_for(rows: list[tuple]) -> None:
    columns = list(zip(*rows, strict=True)) or [[], [], [], []]
    names = ("user_id", "item_id", "timestamp", "rating")
    table = raw(
        **{name: pa.array(values, pa.string()) for name, values in zip(names, columns, strict=True)}
    )
    usable, dead, _ = validate_interactions(table, KNOWN, LATEST)
    assert usable.num_rows + dead.num_rows == len(rows)
    assert set(usable["item"].to_pylist()) <= {0, 1}
    for line in dead["line"].to_pylist():
        row = json.loads(line)
        assert tuple(row[name] for name in names) in rows


# The transforms.


def test_the_transform_of_interactions_counts_and_separates() -> None:
    table = pa.concat_tables([one(), one(item_id="x"), one(user_id="")])

    def build(pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        known = beam.pvalue.AsSingleton(pipeline | "Known" >> beam.Create([(KNOWN,)]))
        checked = (
            pipeline
            | beam.Create([table, one(item_id="x")])
            | validate.ValidateInteractions(known, LATEST)
        )
        return {name: checked[name] for name in ("usable", validate.DEAD, validate.ROW_COUNTS)}

    found = run(build)
    assert [part.num_rows for part in found["usable"]] == [1]
    assert sum(part.num_rows for part in found[validate.DEAD]) == 3
    counted = sum(found[validate.ROW_COUNTS], RowCounts())
    assert (counted.read, counted.used, counted.dead) == (4, 1, 0)  # the writer counts the dead


def test_the_transforms_of_items_count_duplicates_as_unused() -> None:
    table = raw(item_id=["a", "a", None, "b", "a"], title=list("ABCDE"))
    parts = [table.slice(0, 1), table.slice(1), raw(**{MALFORMED: ["x"], REASON: ["y"]})[:0]]

    def build(pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        tables = pipeline | beam.Create(parts)
        checked = tables | validate.ValidateItems()
        first = (
            checked.usable
            | "Key" >> beam.Map(lambda table: (0, table))
            | beam.GroupByKey()
            | "Concat" >> beam.MapTuple(lambda _, tables: (0, pa.concat_tables(tables)))
            | validate.DropDuplicates(ordered=True)
        )
        positions = beam.pvalue.AsList(first[validate.DUPLICATES])
        return {
            "items": first.usable,
            "dead": checked[validate.DEAD],
            "duplicates": tables | validate.DeadDuplicates(positions),
            "counts": (checked[validate.ROW_COUNTS], first[validate.ROW_COUNTS])
            | "All" >> beam.Flatten(),
        }

    found = run(build)
    assert [(shard, part["title"].to_pylist()) for shard, part in found["items"]] == [
        (0, ["A", "D"])
    ]
    assert [part["reason"].to_pylist() for part in found["dead"]] == [[why.NO_ITEM]]
    [duplicates] = found["duplicates"]
    titles = [json.loads(line)["title"] for line in duplicates["line"].to_pylist()]
    assert titles == ["B", "E"]
    counted = sum(found["counts"], RowCounts())
    assert (counted.read, counted.used) == (5, 2)
