"""What of the input can be used, and what is said of the rest."""

import datetime
import json
import math
from decimal import Decimal

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.eager import run
from transforms import schemas as col
from transforms import validate
from transforms.errors import InputError
from transforms.manifest import Tally
from transforms.read_tables import MALFORMED, POSITION
from transforms.validate import (
    as_ids,
    as_numbers,
    as_times,
    drop_duplicates,
    positive,
    validate_interactions,
    validate_items,
)

NOON = datetime.datetime(2024, 5, 6, 12, 0, 0, 250_000, tzinfo=datetime.UTC)
MICROSECONDS = round(NOON.timestamp() * 1e6)
LATEST = MICROSECONDS + 1
KNOWN = pa.array(["a", "b"])


def chunked(values: list, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def raw(**columns: list | pa.Array) -> pa.Table:
    """Return a table as ReadTables gives it."""
    table = pa.table(columns)
    return table.append_column(POSITION, pa.array(range(table.num_rows), pa.int64()))


def one(**changes: object) -> pa.Table:
    """Return a usable interaction with changes."""
    row = {"user_id": "u", "item_id": "a", "timestamp": NOON, "rating": 4.0} | changes
    return raw(**{name: [value] for name, value in row.items()})


def reasons(table: pa.Table) -> list[str]:
    usable, dead = validate_interactions(table, KNOWN, LATEST)
    assert usable.schema == col.INTERACTIONS
    assert dead.schema == col.DEAD_ROWS
    assert usable.num_rows + dead.num_rows == table.num_rows
    return dead["reason"].to_pylist()


# Ids.


@pytest.mark.parametrize(
    "column",
    [
        chunked([7, None], pa.int64()),
        chunked([7, None], pa.uint8()),
        chunked([7.0, math.nan], pa.float64()),
        chunked([7.0, None], pa.float32()),
        chunked(["7", None], pa.large_string()),
        chunked([b"7", None], pa.binary()),
        chunked(["7", None]).dictionary_encode(),
        chunked(["7", ""]),
        chunked(["7", " \t\u2003"]),
    ],
)
def test_ids_of_any_type_are_strings_and_missing_ones_null(column: pa.ChunkedArray) -> None:
    assert as_ids(column).to_pylist() == ["7", None]


def test_ids_keep_spaces_and_leading_zeros() -> None:
    assert as_ids(chunked([" 007 "])).to_pylist() == [" 007 "]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integer_ids_are_decimal(values: list[int]) -> None:
    assert as_ids(chunked(values, pa.int64())).to_pylist() == [str(value) for value in values]


@given(st.lists(st.floats()))
def test_no_float_breaks_ids(values: list[float]) -> None:
    ids = as_ids(chunked(values, pa.float64())).to_pylist()
    for value, name in zip(values, ids, strict=True):
        assert name is None if not math.isfinite(value) else float(name) == value


def test_ids_that_are_lists_are_refused() -> None:
    with pytest.raises(InputError, match=r"ids must be strings or integers.*list"):
        as_ids(chunked([["a"]]))


# Times.


@pytest.mark.parametrize(
    "column",
    [
        chunked([NOON], pa.timestamp("us", "UTC")),
        chunked([NOON], pa.timestamp("ms", "America/New_York")),
        chunked([NOON.replace(tzinfo=None)], pa.timestamp("ns")),
        chunked([NOON.timestamp()]),
        chunked([Decimal("1714996800.25")]),
        chunked(["1714996800.25"]),
        chunked([" 1.71499680025e9"]),
        chunked(["1714996800.25"]).dictionary_encode(),
        chunked(["2024-05-06T12:00:00.25"]),
        chunked(["2024-05-06 12:00:00.25 UTC"]),  # as BigQuery exports it
        chunked(["2024-05-06T12:00:00.25Z"]),
        chunked([" 2024-05-06T14:00:00.250000+02:00 "]),
        chunked(["20240506T120000.25"]),
    ],
)
def test_one_moment_is_the_same_in_every_form(column: pa.ChunkedArray) -> None:
    assert as_times(column).to_pylist() == [MICROSECONDS]


@pytest.mark.parametrize(
    "kind", [pa.int32(), pa.int64(), pa.timestamp("s"), pa.timestamp("s", "UTC")]
)
def test_whole_seconds_are_seconds_since_1970(kind: pa.DataType) -> None:
    assert as_times(chunked([1_714_996_800], kind)).to_pylist() == [1_714_996_800_000_000]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.string()])
def test_a_day_is_its_first_moment(kind: pa.DataType) -> None:
    days = chunked([datetime.date(2024, 5, 6)], pa.date32()).cast(kind)
    assert as_times(days).to_pylist() == [1_714_953_600_000_000]


@given(st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30)))
def test_a_timestamp_and_its_text_are_the_same_moment(time: datetime.datetime) -> None:
    as_timestamp = as_times(chunked([time], pa.timestamp("us")))
    assert as_times(chunked([time.isoformat()])).equals(as_timestamp)


@pytest.mark.parametrize(
    "text", ["yesterday", "2024-13-01", "12:30", "nan", "inf", "-1e300", "", "05/06/2024"]
)
def test_what_is_no_time_is_null(text: str) -> None:
    assert as_times(chunked([text, "12"])).to_pylist() == [None, 12_000_000]


@pytest.mark.parametrize("scale", [10**3, 10**6, 10**9])
@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.float64(), pa.string(), pa.timestamp("s"), pa.timestamp("s", "UTC")]
)
def test_seconds_that_are_milliseconds_or_less_lie_in_the_future(
    scale: int, kind: pa.DataType
) -> None:
    number = pa.array([1_714_996_800 * scale], pa.int64())
    times = number.cast(kind, safe=False)
    assert reasons(raw(user_id=["u"], item_id=["a"], timestamp=times)) == [validate.FUTURE]


# Numbers.


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (chunked([1, None]), [1.0, None]),
        (chunked(["4.5", None]), [4.5, None]),
        (chunked(["good", "4.5"]), [math.nan, 4.5]),
        (chunked([math.inf, -math.inf, 1e300]), [math.nan] * 3),
        (chunked([True, False]), [1.0, 0.0]),
        (chunked([Decimal("2.5")]), [2.5]),
        (chunked([None], pa.null()), [None]),
        (chunked(["4.5"]).dictionary_encode(), [4.5]),
    ],
)
def test_numbers_are_finite_missing_or_nan(column: pa.ChunkedArray, expected: list) -> None:
    found = as_numbers(column)
    assert found.type == pa.float32()
    np.testing.assert_array_equal(
        found.to_numpy(zero_copy_only=False), pa.array(expected, pa.float32()).to_numpy(False)
    )
    assert found.null_count == expected.count(None)


# Interactions.


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_id": None}, validate.NO_USER),
        ({"user_id": ""}, validate.NO_USER),
        ({"user_id": "  "}, validate.NO_USER),
        ({"item_id": None}, validate.NO_ITEM),
        ({"item_id": ""}, validate.NO_ITEM),
        ({"timestamp": None}, validate.NO_TIME),
        ({"timestamp": "soon"}, validate.BAD_TIME),
        ({"timestamp": NOON + datetime.timedelta(seconds=1)}, validate.FUTURE),
        ({"rating": math.nan}, validate.BAD_RATING),
        ({"rating": math.inf}, validate.BAD_RATING),
        ({"rating": "great"}, validate.BAD_RATING),
        ({"item_id": "unknown"}, validate.NO_METADATA),
    ],
)
def test_an_unusable_interaction_has_its_reason(changes: dict, reason: str) -> None:
    assert reasons(one(**changes)) == [reason]


def test_a_usable_interaction_is_typed_and_knows_its_item() -> None:
    usable, dead = validate_interactions(one(item_id="b"), KNOWN, LATEST)
    assert dead.num_rows == 0
    assert usable.to_pylist() == [
        {"user_id": "u", "item_id": "b", "timestamp": NOON, "rating": 4.0, "item": 1}
    ]


@pytest.mark.parametrize("rating", [[None], None])
def test_a_rating_may_be_missing(rating: list | None) -> None:
    table = one() if rating else one().drop_columns(["rating"])
    assert reasons(table) == []


def test_a_row_has_one_reason_the_first() -> None:
    assert reasons(one(user_id=None, item_id="", timestamp="soon")) == [validate.NO_USER]


def test_a_dead_row_is_kept_verbatim() -> None:
    table = one(user_id="", timestamp="soon", rating="x", extra=[1, None], reason="mine")
    _, dead = validate_interactions(table, KNOWN, LATEST)
    assert json.loads(dead["line"][0].as_py()) == {
        "user_id": "",
        "item_id": "a",
        "timestamp": "soon",
        "rating": "x",
        "extra": [1, None],
        "row.reason": "mine",
        "input": "interactions",
        "reason": validate.NO_USER,
    }


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (pa.array([math.nan]), "nan"),
        (pa.array([[math.inf, 1.0]]), ["inf", 1.0]),
        (pa.array([{"deep": math.nan}]), {"deep": "nan"}),
        (pa.array([b"\x00\xff"]), "00ff"),
        (pa.array([Decimal("1.50")]), "1.50"),
        (pa.array([datetime.date(2024, 5, 6)]), "2024-05-06"),
        (pa.array([datetime.time(12, 30)]), "12:30:00"),
        (
            pa.array([1_714_996_800_123_456_789], pa.timestamp("ns")),
            "2024-05-06 12:00:00.123456789",
        ),
        (pa.array([NOON], pa.timestamp("ms", "Asia/Tokyo")), "2024-05-06 12:00:00.250Z"),
        (pa.array([10**12], pa.timestamp("s")), "<value out of range: 1000000000000>"),
        (pa.array(["two\nlines\u2028\x85{}"]), "two\nlines\u2028\x85{}"),
        (pa.array(["😀 שלום <|im_end|>"]), "😀 שלום <|im_end|>"),
    ],
)
def test_values_of_any_type_fit_one_json_line(value: pa.Array, kept: object) -> None:
    table = raw(user_id=[None], item_id=["a"], timestamp=[NOON], extra=value)
    line = validate_interactions(table, KNOWN, LATEST)[1]["line"][0].as_py()
    assert len(line.splitlines()) == 1
    assert json.loads(line, parse_constant=pytest.fail)["extra"] == kept


def test_a_malformed_line_is_kept_verbatim() -> None:
    text = 'a,"b'
    for check in (lambda table: validate_interactions(table, KNOWN, LATEST), validate_items):
        usable, dead = check(raw(**{MALFORMED: [text]}))
        assert usable.num_rows == 0
        line = json.loads(dead["line"][0].as_py())
        assert (line["line"], line["reason"]) == (text, validate.MALFORMED_LINE)


anything = st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["a", "1", "2024-01-01"]))


@given(st.lists(st.tuples(anything, anything, anything, anything), max_size=20))
def test_no_strings_break_validation_and_every_row_is_accounted_for(rows: list[tuple]) -> None:
    columns = list(zip(*rows, strict=True)) or [[], [], [], []]
    names = ("user_id", "item_id", "timestamp", "rating")
    table = raw(
        **{name: pa.array(values, pa.string()) for name, values in zip(names, columns, strict=True)}
    )
    usable, dead = validate_interactions(table, KNOWN, LATEST)
    assert usable.num_rows + dead.num_rows == len(rows)
    assert set(usable["item_id"].to_pylist()) <= {"a", "b"}
    for line in dead["line"].to_pylist():
        row = json.loads(line)
        assert tuple(row[name] for name in names) in rows


@pytest.mark.parametrize("least", [3.3, 3, -1.0])
def test_a_rating_equal_to_the_least_is_positive(least: float) -> None:
    ratings = pa.array([least, least - 0.1, None, least + 0.1], pa.float32())
    table = pa.table({"rating": ratings})
    assert positive(table, least)["rating"].equals(pa.chunked_array([ratings.take([0, 3])]))


def test_without_a_least_rating_all_are_positive() -> None:
    table = pa.table({"rating": [1.0, None]})
    assert positive(table, None) is table


# Items.


def item_reasons(**columns: list | pa.Array) -> list[str]:
    table = raw(**({"item_id": ["a"], "title": ["A"]} | columns))
    usable, dead = validate_items(table)
    assert usable.schema == validate.VALID_ITEMS
    assert usable.num_rows + dead.num_rows == table.num_rows
    return dead["reason"].to_pylist()


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"item_id": pa.array([None], pa.string())}, validate.NO_ITEM),
        ({"item_id": [" "]}, validate.NO_ITEM),
        ({"title": pa.array([None], pa.string())}, validate.NO_TEXT),
        ({"title": [" "], "text": ["\n"], "keywords": [" , ,"]}, validate.NO_TEXT),
        ({"embedding": pa.array([None], pa.list_(pa.float32()))}, validate.NO_EMBEDDING),
        ({"embedding": pa.array([[]], pa.list_(pa.float32()))}, validate.NO_EMBEDDING),
        ({"embedding": [[1.0, math.nan]]}, validate.BAD_EMBEDDING),
        ({"embedding": [[1.0, None]]}, validate.BAD_EMBEDDING),
        ({"embedding": [[1e300, 1.0]]}, validate.BAD_EMBEDDING),
        ({"eligible": ["perhaps"]}, validate.BAD_ELIGIBLE),
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


@pytest.mark.parametrize("embedding", [["[1.0, 2.0]"], [1.5]])
def test_embeddings_of_another_type_are_refused(embedding: list) -> None:
    with pytest.raises(InputError, match="embeddings of items must be lists of numbers"):
        validate_items(raw(item_id=["a"], title=["A"], embedding=embedding))


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        (["red, blue ,, green"], ["red", "blue", "green"]),
        ([["red", " blue ", "", None]], ["red", "blue"]),
        (pa.array([None], pa.string()), []),
        (pa.array([b"red,blue"], pa.binary()), ["red", "blue"]),
        (pa.array(["red"]).dictionary_encode(), ["red"]),
        (pa.array([["a, b"]]), ["a, b"]),  # of a list, a keyword is what it is
    ],
)
def test_keywords_are_a_list_or_separated_by_commas(
    keywords: list | pa.Array, expected: list[str]
) -> None:
    usable, _ = validate_items(raw(item_id=["a"], title=["A"], keywords=keywords))
    assert usable["keywords"].to_pylist() == [expected]


@pytest.mark.parametrize(
    "titles", [["7"], [7], pa.array([b"7"]), pa.array(["7"]).dictionary_encode()]
)
def test_titles_of_any_type_are_texts(titles: list | pa.Array) -> None:
    usable, _ = validate_items(raw(item_id=["a"], title=titles))
    assert usable["title"].to_pylist() == ["7"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [(True, True), (False, False), (None, True), ("TRUE", True), (" 0", False), (1.0, True)],
)
def test_an_item_is_eligible_unless_it_says_otherwise(said: object, expected: bool) -> None:
    usable, _ = validate_items(raw(item_id=["a"], title=["A"], eligible=[said]))
    assert usable["eligible"].to_pylist() == [expected]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 99)), max_size=20), st.randoms())
def test_of_duplicates_the_first_of_the_input_stays(rows: list[tuple[str, int]], random) -> None:
    table = raw(
        item_id=pa.array([row[0] for row in rows], pa.string()),
        title=pa.array([str(row[1]) for row in rows], pa.string()),
    )
    usable, _ = validate_items(table)
    order = list(range(len(rows)))
    random.shuffle(order)
    first, dead = drop_duplicates(usable.take(pa.array(order, pa.int64())))
    expected: dict[str, str] = {}
    for name, number in rows:
        expected.setdefault(name, str(number))
    found = zip(first["item_id"].to_pylist(), first["title"].to_pylist(), strict=True)
    assert list(found) == sorted(expected.items())
    assert first.schema == col.ITEMS
    assert dead.num_rows == len(rows) - len(expected)
    assert set(dead["reason"].to_pylist()) <= {validate.DUPLICATE_ITEM}


# The transforms.


def total(tallies: list[Tally]) -> Tally:
    return sum(tallies, Tally())


def test_the_transform_of_interactions_counts_and_separates() -> None:
    table = pa.concat_tables([one(), one(item_id="x"), one(user_id="")])

    def build(pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        known = beam.pvalue.AsSingleton(pipeline | "Known" >> beam.Create([(KNOWN,)]))
        checked = (
            pipeline
            | beam.Create([table, one(item_id="x")])
            | validate.ValidateInteractions(known, LATEST)
        )
        return {name: checked[name] for name in ("usable", validate.DEAD, validate.TALLY)}

    found = run(build)
    assert [part.num_rows for part in found["usable"]] == [1]
    assert sum(part.num_rows for part in found[validate.DEAD]) == 3
    counted = total(found[validate.TALLY])
    assert (counted.read, counted.used, counted.dead) == (4, 1, 0)  # the writer counts the dead


def test_the_transforms_of_items_count_duplicates_as_unused() -> None:
    table = raw(item_id=["a", "a", None, "b"], title=list("ABCD"))

    def build(pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        checked = pipeline | beam.Create([table]) | validate.ValidateItems()
        first = checked.usable | beam.Map(lambda t: (0, t)) | validate.DropDuplicates()
        return {
            "items": first.usable,
            "dead": (checked[validate.DEAD], first[validate.DEAD]) | "Dead" >> beam.Flatten(),
            "tally": (checked[validate.TALLY], first[validate.TALLY]) | "All" >> beam.Flatten(),
        }

    found = run(build)
    assert [(shard, part["title"].to_pylist()) for shard, part in found["items"]] == [
        (0, ["A", "D"])
    ]
    assert sum(part.num_rows for part in found["dead"]) == 2
    counted = total(found["tally"])
    assert (counted.read, counted.used) == (4, 2)
