"""Valid items are used; each invalid item is dead, with one reason."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.inputs.test_validate import raw
from transforms import schemas as col
from transforms.errors import InputError
from transforms.inputs import reasons as why
from transforms.inputs import validate
from transforms.inputs.validate import dead_duplicates, drop_duplicates, validate_items


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
