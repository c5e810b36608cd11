"""Shapes that public logs have: each is used like the plain log, or costs rows with a reason.

All hold the same 48 interactions of 4 users.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.errors import InputError
from transforms.inputs import reasons
from transforms.inputs.find_files import find_files
from transforms.inputs.input_format import STANDARD, InputFormat
from transforms.inputs.match_columns import parse_columns
from transforms.inputs.read_files import ReadTables, check_columns
from transforms.inputs.validate import validate_interactions

COLUMNS = ("user_id", "item_id", "timestamp", "rating")
START, DAY = 1_700_001_000, 86_400
ROWS = [
    (str(1 + at // 12), str(1 + at * 7 % 20), START + at * DAY, f"{1 + at % 5}.0")
    for at in range(48)
]
DATES = [datetime.fromtimestamp(row[2], UTC) for row in ROWS]
KNOWN = pa.array([str(number) for number in range(1, 21)])
NOW = 1_900_000_000_000_000  # microseconds
HEADERLESS = InputFormat(header=COLUMNS)
FOURTH = [row for at, row in enumerate(ROWS) if at % 3]  # all but every third row


def text(rows: list, delimiter: str = ",", header: bool = True, end: str = "\n") -> str:
    lines = [COLUMNS, *rows] if header else rows
    return "".join(delimiter.join(map(str, line)) + end for line in lines)


def times(values: list) -> str:
    return text([(u, i, time, r) for (u, i, _, r), time in zip(ROWS, values, strict=True)])


def users(values: list) -> str:
    return text([(user, *row[1:]) for row, user in zip(ROWS, values, strict=True)])


def tables(path: Path, written: InputFormat) -> Iterator[pa.Table]:
    paths = find_files(str(path), "interactions")
    check_columns(paths, "interactions", list(COLUMNS), written)
    read = ReadTables(tuple(paths), written)
    for numbered in enumerate(paths):
        for unit in read._units(numbered):
            yield from read._read(*unit)


Used = list[tuple]


def use(path: Path, written: InputFormat = STANDARD) -> tuple[Used, Counter[str]]:
    """Return (user, item, microseconds, rating) of the usable rows, and the reasons of others."""
    used: Used = []
    dead: Counter[str] = Counter()
    for table in tables(path, written):
        usable, lost, _ = validate_interactions(table, KNOWN, NOW, written)
        items = KNOWN.take(usable["item"].combine_chunks()).to_pylist()
        at = usable["timestamp"].cast(pa.int64()).to_pylist()
        columns = (usable["user_id"].to_pylist(), items, at, usable["rating"].to_pylist())
        used += zip(*columns, strict=True)
        dead += Counter(lost["reason"].to_pylist())
    return sorted(used), dead


def expected(rows: list, day: bool = False) -> Used:
    return sorted(
        (u, i, (time // DAY * DAY if day else time) * 10**6, float(r)) for u, i, time, r in rows
    )


SHAPES = {
    "plain": (text(ROWS), STANDARD),
    "tabs": (text(ROWS, "\t"), STANDARD),
    "semicolons": (text(ROWS, ";"), STANDARD),
    "bars": (text(ROWS, "|"), STANDARD),
    "double colons without a header": (text(ROWS, "::", header=False), HEADERLESS),
    "no header": (text(ROWS, header=False), HEADERLESS),
    "trailing commas": (text(ROWS, end=",\n").replace("rating,", "rating"), STANDARD),
    "a comment": ("# exported 2026\n" + text(ROWS), STANDARD),
    "carriage returns": (text(ROWS, end="\r\n"), STANDARD),
    "carriage returns alone": (text(ROWS, end="\r"), STANDARD),
    "UTF-16": (text(ROWS).encode("utf-16"), InputFormat(encoding="utf-16")),
    "gzip": (gzip.compress(text(ROWS).encode(), mtime=0), STANDARD),
    "zstd": (pa.Codec("zstd").compress(text(ROWS).encode(), asbytes=True), STANDARD),
    "other names": (
        text(ROWS).replace("user_id,item_id", "userId,movieId"),
        InputFormat(columns=parse_columns("user_id=userId,item_id=movieId", "interactions")),
    ),
    "JSON lines of numbers": (
        "\n".join(
            json.dumps(dict(zip(COLUMNS, (int(u), int(i), t, float(r)), strict=True)))
            for u, i, t, r in ROWS
        ),
        STANDARD,
    ),
    "JSON lines of texts": (
        "\n".join(json.dumps(dict(zip(COLUMNS, map(str, row), strict=True))) for row in ROWS),
        STANDARD,
    ),
    "milliseconds": (times([row[2] * 1000 for row in ROWS]), STANDARD),
    "GMT": (times([f"{date:%Y-%m-%d %H:%M:%S} GMT" for date in DATES]), STANDARD),
    "US dates": (
        times([f"{date:%m/%d/%Y %I:%M:%S %p}" for date in DATES]),
        InputFormat(timestamp_format="%m/%d/%Y %I:%M:%S %p"),
    ),
    "float ids": (text([(f"{u}.0", f"{i}.0", t, r) for u, i, t, r in ROWS]), STANDARD),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_used_like_the_plain_log(tmp_path: Path, shape: str) -> None:
    content, written = SHAPES[shape]
    (tmp_path / "log").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert use(tmp_path / "log", written) == (expected(ROWS), Counter())


def test_digits_of_dates_are_days(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(times([f"{date:%Y%m%d}" for date in DATES]))
    assert use(tmp_path / "log") == (expected(ROWS, day=True), Counter())


@pytest.mark.parametrize("word", ["nan", "None", "NULL", "\\N", "<NA>", "null", "NaN", ""])
def test_a_placeholder_is_no_user(tmp_path: Path, word: str) -> None:
    named = [row[0] if at % 3 else word for at, row in enumerate(ROWS)]
    (tmp_path / "log").write_text(users(named))
    assert use(tmp_path / "log") == (expected(FOURTH), Counter({reasons.NO_USER: 16}))


def test_a_user_that_stands_for_no_user_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(users([row[0] if at % 3 else 0 for at, row in enumerate(ROWS)]))
    found = use(tmp_path / "log", InputFormat(anonymous_users=("0",)))
    assert found == (expected(FOURTH), Counter({reasons.ANONYMOUS: 16}))


LINES = text(ROWS).splitlines(keepends=True)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('1,"8,1700001000,3.0\n', reasons.OPEN_QUOTE),
        ("1\0,8,1700001000,3.0\n", reasons.NUL_BYTE),
        ("caf\udce9,8,1700001000,3.0\n", reasons.NOT_UTF8),
    ],
)
def test_one_bad_line_is_one_dead_row(tmp_path: Path, line: str, reason: str) -> None:
    content = "".join([*LINES[:10], line, *LINES[10:]])
    (tmp_path / "log").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert use(tmp_path / "log") == (expected(ROWS), Counter({reason: 1}))


def parquet(path: Path, rows: list) -> None:
    pq.write_table(pa.table([list(column) for column in zip(*rows, strict=True)], COLUMNS), path)


def test_shards_of_different_kinds_are_one_log(tmp_path: Path) -> None:
    parts = [ROWS[at::6] for at in range(6)]
    (tmp_path / "0.csv").write_text(text(parts[0]))
    (tmp_path / "1.CSV").write_text(text([(f"{row[0]}.0", *row[1:]) for row in parts[1]]))
    (tmp_path / "2.tsv").write_text(text(parts[2], "\t"))
    parquet(tmp_path / "3.parquet", [(int(u), float(i), t * 1000, r) for u, i, t, r in parts[3]])
    (tmp_path / "sub.parquet").mkdir()
    parquet(tmp_path / "sub.parquet/part-0", [(float(u), int(i), t, r) for u, i, t, r in parts[4]])
    (tmp_path / "dt=2026-01-01").mkdir()
    (tmp_path / "dt=2026-01-01" / "part-00000").write_text(text(parts[5]))
    (tmp_path / "_draft.csv").write_text(text(ROWS))
    assert use(tmp_path) == (expected(ROWS), Counter())


def test_a_partition_may_be_the_time(tmp_path: Path) -> None:
    for (user, item, _, rating), date in zip(ROWS, DATES, strict=True):
        folder = tmp_path / f"dt={date:%Y-%m-%d}"
        folder.mkdir(exist_ok=True)
        (folder / "part").write_text(f"user_id,item_id,rating\n{user},{item},{rating}\n")
    written = InputFormat(columns=(("timestamp", "dt"),))
    assert use(tmp_path, written) == (expected(ROWS, day=True), Counter())


def test_without_a_flag_a_shape_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text(ROWS, "::", header=False))
    with pytest.raises(InputError, match="name its columns in --interaction_header"):
        use(tmp_path / "log")
    (tmp_path / "log").write_text(SHAPES["other names"][0])
    with pytest.raises(InputError, match="give --interaction_columns=user_id=userId,item_id=movie"):
        use(tmp_path / "log")


def test_blocks_and_their_order_do_not_show(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "log"
    path.write_text("".join([*LINES[:10], '1,"8,1700001000,3.0\n', *LINES[10:]]))
    whole = use(path)
    monkeypatch.setattr(
        "transforms.inputs.read_files.BLOCK_BYTES", int(np.sqrt(len(LINES[1]) * 400))
    )
    assert use(path) == whole
