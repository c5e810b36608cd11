"""Dead rows as lines of the dead letter: unchanged, with the reason."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import schemas as col
from transforms.inputs.input_format import MALFORMED, OWN_COLUMNS, REASON


class RowReasons:
    """The first reason against each row of a batch."""

    def __init__(self, rows: int) -> None:
        self._names: list[str] = []
        self._reason = np.full(rows, -1, np.int32)

    def add(self, reason: str, mask: np.ndarray | pa.Array | pa.ChunkedArray) -> None:
        """Give a reason to the rows of a mask [rows] that have no reason yet."""
        if isinstance(mask, pa.Array | pa.ChunkedArray):
            mask = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
        self._names.append(reason)
        self._reason[mask & (self._reason < 0)] = len(self._names) - 1

    @property
    def usable(self) -> np.ndarray:
        """[rows] bool: the row has no reason."""
        return self._reason < 0

    def dead_rows(self, raw: pa.Table, input_name: str) -> pa.Table:
        """Return the rows with a reason as DEAD_ROWS."""
        dead = np.flatnonzero(self._reason >= 0)
        if not dead.size:
            return col.DEAD_ROWS.empty_table()
        names = [self._names[number] for number in self._reason[dead]]
        rows = _rows_at(raw, dead)
        lines = [_line(row, input_name, name) for row, name in zip(rows, names, strict=True)]
        return pa.table({"line": lines, "reason": names}, schema=col.DEAD_ROWS)


def dead_lines(malformed: pa.Table, input_name: str) -> pa.Table:
    """Return the lines of a raw table that are no rows as DEAD_ROWS."""
    texts, names = malformed[MALFORMED].to_pylist(), malformed[REASON].to_pylist()
    pairs = zip(texts, names, strict=True)
    lines = [_line({"line": text}, input_name, name) for text, name in pairs]
    return pa.table({"line": lines, "reason": names}, schema=col.DEAD_ROWS)


def _rows_at(raw: pa.Table, rows: np.ndarray) -> list[dict[str, Any]]:
    """Return rows by number, with values for JSON."""
    columns = {
        name: _values_at(raw[name], rows) for name in raw.column_names if name not in OWN_COLUMNS
    }
    return [{name: values[at] for name, values in columns.items()} for at in range(len(rows))]


def _values_at(column: pa.ChunkedArray, rows: np.ndarray) -> list[Any]:
    try:
        return _values(column.take(pa.array(rows)).combine_chunks())
    except pa.ArrowNotImplementedError:  # take() of string views
        values = _values(column.combine_chunks())
        return [values[row] for row in rows]


def _values(column: pa.Array) -> list[Any]:
    """Return values for JSON: times as text, bytes in hex, NaN as a string."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _values(column.dictionary_decode())
    if pa.types.is_map(kind):
        pairs = [_values(row.values) if row.is_valid else None for row in column]
        return [row and [list(pair.values()) for pair in row] for row in pairs]
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        parts = zip(*map(_values, column.flatten()), strict=True) if names else [()] * len(column)
        return [
            dict(zip(names, row, strict=True)) if valid else None
            for row, valid in zip(parts, column.is_valid().to_pylist(), strict=True)
        ]
    if pa.types.is_nested(kind):  # a list of any kind
        values = iter(_values(column.flatten()))
        lengths = pc.list_value_length(column).to_pylist()
        return [None if n is None else list(itertools.islice(values, n)) for n in lengths]
    # Arrow makes the text: Python has no years beyond 9999 and no nanoseconds.
    if pa.types.is_timestamp(kind):
        zone = "" if kind.tz is None else "Z"
        wall = column.cast(pa.int64()).cast(pa.timestamp(kind.unit)).cast(pa.string())
        return pc.binary_join_element_wise(wall, zone, "").to_pylist()
    if pa.types.is_duration(kind):
        return pc.binary_join_element_wise(column.cast(pa.string()), kind.unit, "").to_pylist()
    if pa.types.is_date(kind):
        return column.cast(pa.string()).to_pylist()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        encoded = column.cast(pa.large_binary()).to_pylist()
        return [x if x is None else x.decode(errors="backslashreplace") for x in encoded]
    values = column.to_pylist()
    if pa.types.is_floating(kind):
        return [str(x) if x is not None and not math.isfinite(x) else x for x in values]
    return [value.hex() if isinstance(value, bytes) else value for value in values]


def _line(row: dict[str, Any], input_name: str, reason: str) -> str:
    own = {"input": input_name, "reason": reason}
    # A column of the input with one of our names is renamed.
    verbatim = {f"row.{name}" if name in own else name: value for name, value in row.items()}
    # Unicode has these line ends and JSON has not: many readers would split the line there.
    ends = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
    return json.dumps(verbatim | own, ensure_ascii=False, default=str).translate(ends)
