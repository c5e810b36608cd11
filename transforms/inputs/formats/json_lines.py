"""JSON lines as Arrow tables.

Not with pyarrow.json: it reads an id like "2026-01-31" as a time and an integer above 2^63 as a
float, and one bad line ends it.
"""

import json
from typing import Any

import pyarrow as pa

from transforms.inputs import reasons
from transforms.inputs.input_format import MALFORMED, REASON


def first_columns(head: bytes) -> list[str]:
    """Return the names of the values in a block of lines, in order of occurrence."""
    table, _ = parse_block(head, [])
    return table.column_names


def parse_block(block: bytes, columns: list[str]) -> tuple[pa.Table, pa.Table]:
    """Return the rows of lines, with at least some columns, and a table of MALFORMED lines.

    Numbers are strings, as they are written.
    """
    rows: list[dict[str, Any]] = []
    malformed: list[tuple[str, str]] = []
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
            if b"\\u" in line:
                json.dumps(row, ensure_ascii=False).encode()  # \ud800 is no text
        except UnicodeError:
            malformed.append((line.decode(errors="backslashreplace"), reasons.NOT_UTF8))
            continue
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            malformed.append((line.decode(errors="backslashreplace"), reasons.NOT_JSON))
    names = dict.fromkeys(columns) | dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in names})
    texts, why = zip(*malformed, strict=True) if malformed else ((), ())
    return table, pa.table(
        {MALFORMED: pa.array(texts, pa.string()), REASON: pa.array(why, pa.string())}
    )


def _column(values: list[Any]) -> pa.Array:
    """Return strings, or lists of strings; other values become JSON."""
    if all(value is None or isinstance(value, list) for value in values) and any(values):
        return pa.array(
            [value and [_text(one) for one in value] for value in values], pa.list_(pa.string())
        )
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
