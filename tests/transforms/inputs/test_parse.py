"""Columns of every type that fits."""

import math
import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import InputError
from transforms.inputs import parse
from transforms.inputs.parse import (
    as_eligible,
    as_embeddings,
    as_ids,
    as_keywords,
    as_numbers,
)


def chunked(values: list | pa.Array, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def strings(*values: bytes) -> pa.ChunkedArray:
    """Return strings of any bytes, as a Parquet file can hold them."""
    encoded = pa.array(values, pa.binary())
    return pa.chunked_array([pa.StringArray.from_buffers(len(values), *encoded.buffers()[1:])])


# Ids.


@pytest.mark.parametrize(
    "column",
    [
        chunked([7, None], pa.int64()),
        chunked([7, None], pa.uint8()),
        chunked([7.0, math.nan], pa.float64()),
        chunked([7.0, None], pa.float32()),
        chunked(["7", None], pa.large_string()),
        chunked(["7", None], pa.string_view()),
        chunked([b"7", None], pa.binary()),
        chunked([b"7", None], pa.binary_view()),
        chunked([b"7", None], pa.binary(1)),
        chunked(["7", None]).dictionary_encode(),
        chunked(["7", ""]),
        chunked(["7", " \t\u2003"]),
    ],
)
def test_ids_of_any_type_are_strings_and_missing_ones_null(column: pa.ChunkedArray) -> None:
    assert as_ids(column)[0].to_pylist() == ["7", None]


@pytest.mark.parametrize("text", ["7.0", "7.00", "7"])
def test_a_whole_number_with_decimals_is_an_integer(text: str) -> None:
    ids, count = as_ids(chunked([text, "x7.0", "7.05"]))
    assert ids.to_pylist() == ["7", "x7.0", "7.05"]
    assert count == (text != "7")


def test_ids_of_floats_and_decimals_join_those_of_integers() -> None:
    assert as_ids(chunked([7.0, 7.5])) == (chunked(["7", "7.5"]), 1)
    assert as_ids(chunked([Decimal("7.000")]))[0].to_pylist() == ["7"]


@pytest.mark.parametrize("text", ["007", "007.0", "18446744073709551617", "1e3"])
def test_other_numbers_stay_texts(text: str) -> None:
    assert as_ids(chunked([text])) == (chunked([text]), 0)


@pytest.mark.parametrize("text", ["nan", "NaN", "None", "NULL", "null", "\\N", "<NA>"])
def test_words_for_a_missing_value_are_no_ids(text: str) -> None:
    column = chunked([text, "0", "nano"])
    assert as_ids(column)[0].to_pylist() == [None, "0", "nano"]
    assert parse.missing(column).tolist() == [True, False, False]


def test_nulls_among_texts_are_missing_and_bytes_that_are_no_text_are_not() -> None:
    assert parse.missing(chunked([None, "a", " "])).tolist() == [True, False, True]
    column = chunked([None, b"a", b"\xff"], pa.binary())
    assert parse.missing(column).tolist() == [True, False, False]


@pytest.mark.parametrize(("kind", "limit"), [(pa.float32(), 2.0**24), (pa.float64(), 2.0**53)])
def test_floats_that_stand_for_several_integers_are_no_ids(kind: pa.DataType, limit) -> None:
    column = chunked([limit, limit - 1, None, -limit], kind)
    assert parse.inexact(column).to_pylist() == [True, False, False, True]
    assert as_ids(column)[0].to_pylist() == [None, str(int(limit - 1)), None, None]


def test_ids_keep_spaces_and_leading_zeros() -> None:
    assert as_ids(chunked([" 007 "]))[0].to_pylist() == [" 007 "]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integer_ids_are_decimal(values: list[int]) -> None:
    assert as_ids(chunked(values, pa.int64()))[0].to_pylist() == [str(value) for value in values]


@given(st.lists(st.floats()))
def test_no_float_breaks_ids(values: list[float]) -> None:
    ids = as_ids(chunked(values, pa.float64()))[0].to_pylist()
    for value, name in zip(values, ids, strict=True):
        exact = math.isfinite(value) and abs(value) < 2**53
        assert float(name) == value if exact else name is None


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2)])
def test_bytes_that_are_not_utf8_are_no_ids(kind: pa.DataType) -> None:
    column = chunked([b"\xc3\xa9", b"\xff\xfe", None], kind)
    for ids in (column, column.cast(pa.binary()).dictionary_encode()):
        assert as_ids(ids)[0].to_pylist() == ["é", None, None]
        assert parse.not_utf8(ids).tolist() == [False, True, False]


def test_strings_that_are_not_utf8_are_no_ids() -> None:
    column = strings(b"a", b"caf\xe9")
    assert as_ids(column)[0].to_pylist() == ["a", None]
    assert parse.not_utf8(column).tolist() == [False, True]


def test_a_list_that_holds_bytes_that_are_not_utf8_is_found() -> None:
    lists = chunked([[b"a"], None, [], [b"a", b"\xff"], [None]], pa.list_(pa.binary()))
    assert parse.not_utf8(lists).tolist() == [False, False, False, True, False]


def test_what_is_not_text_has_no_encoding() -> None:
    assert not parse.not_utf8(chunked([1, None])).any()


def test_uuids_are_ids() -> None:
    name = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
    assert as_ids(chunked([name.bytes, None], pa.uuid()))[0].to_pylist() == [str(name), None]


def test_ids_that_are_lists_are_refused() -> None:
    with pytest.raises(InputError, match=r"ids must be strings or integers.*list"):
        as_ids(chunked([["a"]]))


# Numbers.


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (chunked([1, None]), [1.0, None]),
        (chunked(["4.5", None]), [4.5, None]),
        (chunked(["good", "4.5"]), [math.nan, 4.5]),
        (chunked(["NULL", "\\N", "", "nan"]), [None, None, None, math.nan]),
        (chunked([math.inf, -math.inf, 1e300]), [math.nan] * 3),
        (chunked([True, False]), [1.0, 0.0]),
        (chunked([Decimal("2.5")]), [2.5]),
        (chunked([None], pa.null()), [None]),
        (chunked(["4.5"]).dictionary_encode(), [4.5]),
        (chunked(["4.5", None], pa.string_view()), [4.5, None]),
        (chunked([b"4.5", b"x"]), [4.5, math.nan]),
    ],
)
def test_numbers_are_finite_missing_or_nan(column: pa.ChunkedArray, expected: list) -> None:
    found = as_numbers(column)
    assert found.type == pa.float32()
    np.testing.assert_array_equal(
        found.to_numpy(zero_copy_only=False), pa.array(expected, pa.float32()).to_numpy(False)
    )
    assert found.null_count == expected.count(None)


# Keywords, embeddings, eligible.


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        (chunked(["red, blue ,, green", None]), [["red", "blue", "green"], []]),
        (chunked([["red", " blue ", "", None], None, []]), [["red", "blue"], [], []]),
        (chunked([["a", "b"], None, ["c", "d"]], pa.list_(pa.string(), 2))[1:], [[], ["c", "d"]]),
        (chunked([["red"], None, ["a"]], pa.list_(pa.string_view())), [["red"], [], ["a"]]),
        (chunked([["red"], None], pa.list_view(pa.string())), [["red"], []]),
        (chunked([b"red,blue"], pa.binary()), [["red", "blue"]]),
        (chunked(["red"]).dictionary_encode(), [["red"]]),
        (chunked([[7, 0]]), [["7", "0"]]),
        (chunked([["a, b"]]), [["a, b"]]),  # of a list, a keyword is what it is
    ],
)
def test_keywords_are_a_list_or_separated_by_commas(
    keywords: pa.ChunkedArray, expected: list[list[str]]
) -> None:
    assert as_keywords(keywords) == expected


vectors = st.none() | st.lists(st.none() | st.floats(width=32), min_size=2, max_size=2)


@given(st.lists(vectors), st.integers(0, 3), st.booleans())
def test_finite_embeddings_are_told_whatever_is_behind_nulls(
    rows: list[list | None], start: int, fixed: bool
) -> None:
    column = chunked(rows, pa.list_(pa.float64(), 2) if fixed else pa.list_(pa.float64()))
    found = parse.all_finite(as_embeddings(column[start:]))
    assert found.tolist() == [
        all(x is not None and math.isfinite(x) for x in row or []) for row in rows[start:]
    ]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (chunked([True, False, None]), [True, False, True]),
        (chunked([1, 0, 2]), [True, False, None]),
        (chunked([1.0, 0.0, math.nan]), [True, False, None]),
        (chunked(["TRUE", " 0", "perhaps", "", None]), [True, False, None, None, True]),
        (chunked(["Y", "n", "Yes", "no", "t", "F"]), [True, False] * 3),
        (chunked(["true", "0.0"], pa.string_view()), [True, False]),
        (chunked([None], pa.null()), [True]),
    ],
)
def test_eligible_is_true_unless_it_says_otherwise(said: pa.ChunkedArray, expected: list) -> None:
    assert as_eligible(said).to_pylist() == expected
