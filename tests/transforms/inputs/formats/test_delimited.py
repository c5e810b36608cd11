"""Delimited text: one bad line costs that line, whatever is in it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.inputs import reasons
from transforms.inputs.formats.delimited import layout_of, read_tables
from transforms.inputs.formats.text_blocks import read_blocks
from transforms.inputs.input_format import MALFORMED, REASON, STANDARD, InputFormat

HEADER = b"user,item,time\n"
GOOD = [[f"u{at}", f"i{at}", str(at)] for at in range(40)]
MULTILINE = InputFormat(newlines_in_values=True)


def lines(rows: list[list[str]], delimiter: str = ",") -> bytes:
    return "".join(delimiter.join(row) + "\n" for row in rows).encode()


def read(
    content: bytes, written: InputFormat = STANDARD, block: int = 1 << 20
) -> tuple[list[list], list[tuple[str, str]]]:
    """Return the rows, and the (text, reason) of lines that are none."""
    layout = layout_of(content, written)
    starts = range(0, len(content), block)
    cut: list[bytes] = []
    rest = b""
    for start in starts:  # as read_blocks does
        whole, newline, rest = (rest + content[start : start + block]).rpartition(b"\n")
        cut += [whole + newline] if newline else []
    cut += [rest + b"\n"] if rest else []
    rows, bad = [], []
    for table in read_tables(iter(cut), layout, written.newlines_in_values):
        if MALFORMED in table.column_names:
            bad += zip(table[MALFORMED].to_pylist(), table[REASON].to_pylist(), strict=True)
        else:
            assert table.column_names == list(layout.columns)
            rows += [list(row.values()) for row in table.to_pylist()]
    return rows, bad


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'u,"i,1', reasons.OPEN_QUOTE),
        (b'"u,i,1', reasons.OPEN_QUOTE),
        (b'u,i,"1', reasons.OPEN_QUOTE),
        (b'"u","i,1', reasons.OPEN_QUOTE),
        (b'a"u,"i,1', reasons.OPEN_QUOTE),
        (b"caf\xe9,i,1", reasons.NOT_UTF8),
        (b"u,i", reasons.MALFORMED_LINE),
        (b"u,i,1,more", reasons.MALFORMED_LINE),
        (b"u,i,1\ru,i,2", reasons.MALFORMED_LINE),
        (b"{}", reasons.MALFORMED_LINE),
        (b"  ", reasons.MALFORMED_LINE),
    ],
)
@pytest.mark.parametrize("at", [0, 17, 40])
@pytest.mark.parametrize("written", [STANDARD, MULTILINE])
def test_a_bad_line_costs_that_line(line: bytes, reason: str, at: int, written) -> None:
    rows, bad = read(HEADER + lines(GOOD[:at]) + line + b"\n" + lines(GOOD[at:]), written)
    assert rows == GOOD
    assert bad == [(line.decode(errors="backslashreplace"), reason)]


def test_two_stray_quotes_cost_two_lines() -> None:
    bad = b'u,"i,1\n'
    rows, lost = read(HEADER + lines(GOOD[:10]) + bad + lines(GOOD[10:20]) + bad + lines(GOOD[20:]))
    assert rows == GOOD
    assert len(lost) == 2


def test_inch_marks_are_text() -> None:
    inches = [[row[0], f'7" {row[1]}', row[2]] for row in GOOD]
    assert read(HEADER + lines(inches)) == (inches, [])


def test_a_column_of_values_that_begin_with_a_quote_costs_its_lines_alone() -> None:
    content = HEADER + b"".join(b'u,"7 inch,%d\n' % at for at in range(20)) + lines(GOOD)
    rows, bad = read(content)
    assert rows == GOOD
    assert len(bad) == 20


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"007,1e3,x\n", [["007", "1e3", "x"]]),  # as they are written
        (b',2,\n\n"",2,""\n', [[None, "2", None]] * 2),
        (b'"a ""b"", c",d,e\n', [['a "b", c', "d", "e"]]),
        (b"a,b,c\r\n\r\n", [["a", "b", "c"]]),
        ("é\u2028😀,\x85,c\n".encode(), [["é\u2028😀", "\x85", "c"]]),
        (b"a,b,c", [["a", "b", "c"]]),
        (b'a,"b,c"', []),
    ],
)
def test_values_are_read_as_strings(content: bytes, rows: list) -> None:
    assert read(HEADER + content)[0] == rows


values = st.text(st.sampled_from('ab",;\n\r é'), max_size=5)


@given(st.lists(st.lists(values, min_size=3, max_size=3), min_size=1), st.integers(1, 60))
def test_values_with_newlines_are_read_if_a_flag_says_so(rows: list, block: int) -> None:
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    content = HEADER + text.getvalue().encode()
    found, bad = read(content, MULTILINE, max(block, len(HEADER)))
    assert bad == []
    assert found == [[value or None for value in row] for row in rows]


def test_without_the_flag_a_value_with_a_newline_costs_its_lines() -> None:
    rows, bad = read(HEADER + b'u,"two\nlines",1\n' + lines(GOOD))
    assert rows == GOOD
    assert [text for text, _ in bad] == ['u,"two', 'lines",1']


def test_a_stray_quote_is_given_up_where_values_hold_newlines() -> None:
    content = HEADER + lines(GOOD[:5]) + b'u,"i,1\n' + lines(GOOD[5:]) + b'u,"two\nlines",1\n'
    rows, bad = read(content, MULTILINE)
    assert rows == [*GOOD, ["u", "two\nlines", "1"]]
    assert bad == [('u,"i,1', reasons.OPEN_QUOTE)]


@pytest.mark.parametrize("block", [16, 50, 1000])
def test_blocks_do_not_show(block: int) -> None:
    content = HEADER + lines(GOOD[:7]) + b'u,"i,1\n' + lines(GOOD[7:])
    assert read(content, STANDARD, block) == read(content)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "::"])
def test_the_delimiter_is_recognised(delimiter: str) -> None:
    header = delimiter.join(["user", "item", "time"]).encode() + b"\n"
    bad = delimiter.join(["u", "i"])
    rows, malformed = read(header + lines(GOOD, delimiter) + bad.encode() + b"\n")
    assert rows == GOOD
    assert malformed == [(bad, reasons.MALFORMED_LINE)]


def test_a_delimiter_that_is_given_is_taken() -> None:
    content = b"user item,a time\nu i,b 1\n"
    assert read(content, InputFormat(delimiter=" "))[0] == [["u", "i,b", "1"]]


def test_names_in_place_of_a_header_line() -> None:
    written = InputFormat(header=("user", "item", "time"))
    assert read(lines(GOOD), written) == (GOOD, [])
    assert read(b"u\tToy Story, The, 1995, x\t1\n", written)[0] == [
        ["u", "Toy Story, The, 1995, x", "1"]
    ]


def test_comments_before_the_header_are_skipped() -> None:
    assert read(b"# exported 2026\n\n#\n" + HEADER + lines(GOOD)) == (GOOD, [])
    assert read(b"sep=,\r\n" + HEADER + lines(GOOD)) == (GOOD, [])  # as Excel writes it


@pytest.mark.parametrize("end", [b",\n", b",\r\n"])
def test_a_trailing_delimiter_is_no_field(end: bytes) -> None:
    content = HEADER + lines(GOOD).replace(b"\n", end) + b"u,i,," + end[1:]
    assert read(content) == ([*GOOD, ["u", "i", None]], [])


def test_a_header_with_a_trailing_delimiter_has_no_further_column() -> None:
    assert read(HEADER.replace(b"\n", b",\n") + lines(GOOD)) == (GOOD, [])


def test_names_are_without_spaces_around() -> None:
    assert layout_of(b"user, item ,time\n", STANDARD).columns == ("user", "item", "time")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# only a comment\n"])
def test_a_file_without_a_header_has_no_columns(content: bytes) -> None:
    assert layout_of(content, STANDARD).columns == ()


def blocks(folder: Path, content: bytes, encoding: str = "utf-8", size: int = 8) -> bytes:
    (folder / "text").write_bytes(content)
    found = list(read_blocks(str(folder / "text"), encoding, size))
    assert all(block.endswith(b"\n") for block in found)
    return b"".join(found)


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [
        ("é,b\nc", "latin-1", "é,b\nc\n"),
        ("é,b\nc\n", "utf-16", "é,b\nc\n"),
        ("\ufeffé,b\nc\n", "utf-8", "é,b\nc\n"),
        ("€,b\n" * 9, "cp1252", "€,b\n" * 9),
        ("a,b\rc,d\r", "utf-8", "a,b\nc,d\n"),
        ("一,b\n", "gb18030", "一,b\n"),
    ],
)
def test_any_encoding_becomes_utf8(tmp_path: Path, content: str, encoding: str, expected) -> None:
    assert blocks(tmp_path, content.encode(encoding), encoding).decode() == expected


def test_bytes_that_are_not_of_the_encoding_stay(tmp_path: Path) -> None:
    assert blocks(tmp_path, b"a\x81\n", "cp1252") == b"a\x81\n"


fragments = st.text(st.sampled_from('ab",\r\n é\0\x1f'), max_size=60)


@given(fragments)
def test_every_line_is_a_row_or_is_lost_whatever_is_beside_it(fragment: str) -> None:
    first = b"u,i,1\n"
    rows, bad = read(HEADER + first + fragment.encode())
    alone = [read(HEADER + first + line.encode()) for line in fragment.split("\n")]
    assert rows == [["u", "i", "1"], *(row for found, _ in alone for row in found[1:])]
    assert bad == [one for _, lost in alone for one in lost]
    blank = sum(not line.removesuffix("\r") for line in fragment.split("\n"))
    assert len(rows) - 1 + len(bad) == fragment.count("\n") + 1 - blank
