"""Lines of the dead letter: any row, as it was, in one line of JSON."""

import datetime
import json
import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from transforms import schemas as col
from transforms.inputs.dead_letter import RowReasons, dead_lines
from transforms.inputs.input_format import MALFORMED, POSITION, REASON

NOON = datetime.datetime(2024, 5, 6, 12, 0, 0, 250_000, tzinfo=datetime.UTC)


def dead(*, rows: list[int] | None = None, **columns: list | pa.Array) -> list[str]:
    """Return the lines of some rows of a table (None: of all)."""
    table = pa.table(columns)
    table = table.append_column(POSITION, pa.array(range(table.num_rows), pa.int64()))
    reasons = RowReasons(table.num_rows)
    mask = np.isin(np.arange(table.num_rows), range(table.num_rows) if rows is None else rows)
    reasons.add("why", mask)
    found = reasons.dead_rows(table, "items")
    assert found.schema == col.DEAD_ROWS
    assert found["reason"].to_pylist() == ["why"] * int(mask.sum())
    return found["line"].to_pylist()


def test_the_first_reason_counts() -> None:
    reasons = RowReasons(4)
    reasons.add("first", np.array([True, False, False, False]))
    reasons.add("second", pa.array([True, True, None, False]))
    assert reasons.usable.tolist() == [False, False, True, True]
    lines = reasons.dead_rows(pa.table({"a": [1, 2, 3, 4]}), "items")
    assert lines.to_pylist() == [
        {"line": '{"a": 1, "input": "items", "reason": "first"}', "reason": "first"},
        {"line": '{"a": 2, "input": "items", "reason": "second"}', "reason": "second"},
    ]


def test_a_row_is_kept_verbatim() -> None:
    [line] = dead(user_id=[""], extra=[[1, None]], reason=["mine"], input=[2])
    assert json.loads(line) == {
        "user_id": "",
        "extra": [1, None],
        "row.reason": "mine",
        "row.input": 2,
        "input": "items",
        "reason": "why",
    }


def test_a_malformed_line_is_its_text() -> None:
    found = dead_lines(pa.table({MALFORMED: ['a,"b'], REASON: ["why"]}), "items")
    assert found.to_pylist() == [
        {"line": '{"line": "a,\\"b", "input": "items", "reason": "why"}', "reason": "why"}
    ]


def test_without_dead_rows_there_is_no_line() -> None:
    assert dead(rows=[], extra=[1, 2]) == []


YEAR_10000 = 253_402_300_800
NOT_UTF8 = pa.StringArray.from_buffers(1, *pa.array([b"caf\xe9"]).buffers()[1:])


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
        (pa.array(["a"], pa.string_view()), "a"),
        (pa.array([b"\xff"], pa.binary_view()), "ff"),
        (pa.array([b"ab"], pa.binary(2)), "6162"),
        (pa.array(["a"]).dictionary_encode(), "a"),
        (pa.array([["a", None]], pa.list_(pa.string_view())), ["a", None]),
        (
            pa.array([{"deep": ["a"]}], pa.struct({"deep": pa.list_(pa.string_view())})),
            {"deep": ["a"]},
        ),
        (pa.array([{}], pa.struct([])), {}),
        (
            pa.array([[("a", math.nan), ("b", None)]], pa.map_(pa.string(), pa.float64())),
            [["a", "nan"], ["b", None]],
        ),
        (pa.array([[YEAR_10000]], pa.list_(pa.timestamp("s"))), ["10000-01-01 00:00:00"]),
        (
            pa.array([[YEAR_10000]], pa.list_view(pa.timestamp("s", "UTC"))),
            ["10000-01-01 00:00:00Z"],
        ),
        (pa.array([[1]], pa.list_(pa.timestamp("ns"), 1)), ["1970-01-01 00:00:00.000000001"]),
        (
            pa.array([{"deep": YEAR_10000}], pa.struct({"deep": pa.timestamp("s")})),
            {"deep": "10000-01-01 00:00:00"},
        ),
        (
            pa.array([[("a", YEAR_10000)]], pa.map_(pa.string(), pa.timestamp("s"))),
            [["a", "10000-01-01 00:00:00"]],
        ),
        (pa.array([[10**7]], pa.list_(pa.date32())), ["29349-01-26"]),
        (pa.array([10**16], pa.duration("s")), "10000000000000000s"),
        (pa.array([[1]], pa.list_(pa.duration("ns"))), ["1ns"]),
        (NOT_UTF8, "caf\\xe9"),
        (pa.ListArray.from_arrays([0, 1], NOT_UTF8), ["caf\\xe9"]),
        (pa.array([bytes(16)], pa.uuid()), "00000000-0000-0000-0000-000000000000"),
    ],
)
def test_values_of_any_type_fit_one_json_line(value: pa.Array, kept: object) -> None:
    # A null before, and both orders: values behind others, nulls and slices stay in their rows.
    nulls = pa.nulls(1, value.type)
    column = pa.concat_arrays([nulls, value, nulls, value])[1:]
    for rows in ([0, 1, 2], [1, 2], [2]):
        lines = dead(rows=rows, extra=column)
        assert all(len(line.splitlines()) == 1 for line in lines)
        found = [json.loads(line, parse_constant=pytest.fail)["extra"] for line in lines]
        assert found == [(kept, None, kept)[row] for row in rows]
