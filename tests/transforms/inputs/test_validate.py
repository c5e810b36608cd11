"""Valid rows are used; each invalid row is dead, with one reason."""

import datetime
import json
import math

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.eager import run
from transforms import schemas as col
from transforms.errors import InputError
from transforms.inputs import reasons as why
from transforms.inputs import validate
from transforms.inputs.input_format import MALFORMED, POSITION, REASON, STANDARD, InputFormat
from transforms.inputs.validate import (
    dead_duplicates,
    drop_duplicates,
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


# Items.


def item_reasons(**columns: list | pa.Array) -> list[str]:
    table = raw(**({"item_id": ["a"], "title": ["A"]} | columns))
    usable, dead, _ = validate_items(table)
    assert usable.schema == validate.VALID_ITEMS
    assert usable.num_rows + dead.num_rows == table.num_rows
    return dead["reason"].to_pylist()


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"item_id": pa.array([None], pa.string())}, why.NO_ITEM),
        ({"item_id": [" "]}, why.NO_ITEM),
        ({"title": pa.array([None], pa.string())}, why.NO_TEXT),
        ({"title": [" "], "text": ["\n"], "keywords": [" , ,"]}, why.NO_TEXT),
        ({"embedding": pa.array([None], pa.list_(pa.float32()))}, why.NO_EMBEDDING),
        ({"embedding": pa.array([[]], pa.list_(pa.float32()))}, why.NO_EMBEDDING),
        ({"embedding": [[1.0, math.nan]]}, why.BAD_EMBEDDING),
        ({"embedding": [[1.0, None]]}, why.BAD_EMBEDDING),
        ({"embedding": [[1e300, 1.0]]}, why.BAD_EMBEDDING),
        ({"eligible": ["perhaps"]}, why.BAD_ELIGIBLE),
    ],
)
def test_an_unusable_item_has_its_reason(columns: dict, reason: str) -> None:
    assert item_reasons(**columns) == [reason]


@pytest.mark.parametrize(
    "columns",
    [
        {"title": pa.array([None], pa.string()), "text": ["about"]},
        {"title": [""], "keywords": [["word"]]},
        {"title": pa.array([None], pa.string()), "embedding": [[1.0, 2.0]]},
        {"embedding": [[1, 2]]},
        {"embedding": pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2))},
        {"title": ["x" * 100_000]},
    ],
)
def test_an_item_needs_a_text_or_an_embedding(columns: dict) -> None:
    assert item_reasons(**columns) == []


def test_a_bad_embedding_does_not_blame_its_neighbours() -> None:
    embeddings = [[1.0], [math.nan], [2.0], [], [3.0]]
    table = raw(item_id=list("abcde"), title=list("abcde"), embedding=embeddings)
    assert validate_items(table)[0]["item_id"].to_pylist() == ["a", "c", "e"]


def test_a_missing_embedding_of_fixed_size_does_not_blame_its_neighbours() -> None:
    embeddings = pa.array([[1, 2], None, [3, math.nan], [4, 5]], pa.list_(pa.float32(), 2))
    usable, dead, _ = validate_items(
        raw(item_id=list("abcd"), title=list("abcd"), embedding=embeddings)
    )
    assert usable["embedding"].to_pylist() == [[1, 2], [4, 5]]
    assert dead["reason"].to_pylist() == [why.NO_EMBEDDING, why.BAD_EMBEDDING]


@pytest.mark.parametrize("column", ["item_id", "title", "text", "keywords", "eligible"])
def test_an_item_of_bytes_that_are_not_utf8_is_dead(column: str) -> None:
    columns = {"title": ["A", "B"], column: pa.array([b"1", b"\xff"])}
    assert item_reasons(**({"item_id": ["a", "b"]} | columns)) == [why.NOT_UTF8]


def test_items_of_string_views_are_usable_or_dead() -> None:
    names = pa.array(["a", None], pa.string_view())
    columns = dict.fromkeys(("item_id", "title", "text", "keywords"), names)
    assert item_reasons(**columns) == [why.NO_ITEM]


@pytest.mark.parametrize("embedding", [["[1.0, 2.0]"], [1.5]])
def test_embeddings_of_another_type_are_refused(embedding: list) -> None:
    with pytest.raises(InputError, match="embeddings of items must be lists of numbers"):
        validate_items(raw(item_id=["a"], title=["A"], embedding=embedding))


@pytest.mark.parametrize(
    "titles", [["7"], [7], pa.array([b"7"]), pa.array(["7"]).dictionary_encode()]
)
def test_titles_of_any_type_are_texts(titles: list | pa.Array) -> None:
    usable, _, _ = validate_items(raw(item_id=["a"], title=titles))
    assert usable["title"].to_pylist() == ["7"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 99)), max_size=20), st.randoms())
def test_of_duplicates_the_first_of_the_input_stays(rows: list[tuple[str, int]], random) -> None:
    table = raw(
        item_id=pa.array([row[0] for row in rows], pa.string()),
        title=pa.array([str(row[1]) for row in rows], pa.string()),
    )
    usable, _, _ = validate_items(table)
    order = list(range(len(rows)))
    random.shuffle(order)
    first, positions = drop_duplicates(usable.take(pa.array(order, pa.int64())))
    expected: dict[str, str] = {}
    for name, number in rows:
        expected.setdefault(name, str(number))
    found = zip(first["item_id"].to_pylist(), first["title"].to_pylist(), strict=True)
    assert list(found) == sorted(expected.items())
    assert first.schema == col.ITEMS
    names = [name for name, _ in rows]
    again = [at for at, name in enumerate(names) if name in names[:at]]
    assert positions.dtype == np.int64
    assert sorted(positions.tolist()) == again


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=20), st.randoms())
def test_where_no_row_is_first_the_content_decides(rows: list[tuple[str, int]], random) -> None:
    kept = []
    for _ in range(2):
        table = raw(
            item_id=pa.array([row[0] for row in rows], pa.string()),
            embedding=pa.array([[float(row[1])] for row in rows], pa.list_(pa.float64())),
        )
        usable, _, _ = validate_items(table)
        items, positions = drop_duplicates(usable, ordered=False)
        names = [row[0] for row in rows]
        dropped = [names[at] for at in positions]
        assert sorted([*dropped, *items["item_id"].to_pylist()]) == sorted(names)
        kept.append(items)
        random.shuffle(rows)
    assert kept[0].equals(kept[1])
    assert kept[0]["item_id"].to_pylist() == sorted({name for name, _ in rows})


def test_duplicates_are_dead_verbatim() -> None:
    table = raw(item_id=[7, 7, 8, 7], embedding=[[1.0], [2.0], [3.0], [4.0]], extra=list("wxyz"))
    dead = dead_duplicates(table.slice(1), [np.array([3]), np.array([1])])
    assert dead["reason"].to_pylist() == [why.DUPLICATE_ITEM] * 2
    own = {"input": "items", "reason": why.DUPLICATE_ITEM}
    assert [json.loads(line) for line in dead["line"].to_pylist()] == [
        {"item_id": 7, "embedding": [2.0], "extra": "x"} | own,
        {"item_id": 7, "embedding": [4.0], "extra": "z"} | own,
    ]


@pytest.mark.parametrize("positions", [[], [np.array([99])]])
def test_without_duplicates_none_is_dead(positions: list[np.ndarray]) -> None:
    dead = dead_duplicates(raw(item_id=["a", "b"]), positions)
    assert dead.equals(col.DEAD_ROWS.empty_table())


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
