"""Delimited text, such as CSV and TSV, as Arrow tables of strings.

pyarrow's reader parses; it takes a newline within quotes for a part of the value, so that one stray
quote swallows the lines up to the next. Here a record is a line (or lines that
`newlines_in_values` joins): pyarrow must find as many records as there are, or the lines are parsed
again in halves, down to the line that is none.
"""

import csv
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv

from transforms.inputs.input_format import MALFORMED, REASON, InputFormat
from transforms.inputs.reasons import MALFORMED_LINE, NOT_UTF8, OPEN_QUOTE

_DELIMITERS = (",", "\t", ";", "|", "::")
_COMMENT = re.compile("#|sep=.$")
_STAND_IN, _END = "\x1f\x1e"
_NEWLINE, _RETURN, _QUOTE = b'\n\r"'


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are cut into fields."""

    columns: tuple[str, ...]
    delimiter: str
    before: int  # lines before the first record: comments, blank lines, the header
    trailing: bool  # each record ends with one delimiter more than the header

    @property
    def parsed_delimiter(self) -> str:
        """The delimiter that pyarrow gets: it knows none of several characters."""
        return self.delimiter if len(self.delimiter) == 1 else _STAND_IN

    def as_written(self, text: str) -> str:
        """Return a line that pyarrow got as it is in the file."""
        return text.replace(self.parsed_delimiter, self.delimiter)


def layout_of(head: bytes, written: InputFormat) -> Layout:
    """Return the layout of a file that begins with some lines; it has no columns if they are blank.

    Lines before the header that begin with # are comments, as is Excel's `sep=;`. A delimiter that
    is not given is the one that finds the most columns, or as many as are named.
    """
    lines = [line.removesuffix("\r") for line in head.decode(errors="replace").split("\n")]
    no_header = (at for at, line in enumerate(lines) if line and not _COMMENT.match(line))
    before = next(no_header, len(lines))
    if before == len(lines):
        return Layout((), ",", before, False)
    delimiter = _delimiter(lines[before], written)
    columns = written.header or tuple(map(str.strip, _fields(lines[before], delimiter)))
    before += not written.header
    first = next(filter(None, lines[before:]), "")
    record = _fields(first, delimiter)
    if len(record) == len(columns) - 1 and not columns[-1]:
        columns = columns[:-1]
    trailing = len(record) == len(columns) + 1 and not record[-1]
    return Layout(columns, delimiter, before, trailing)


def _delimiter(line: str, written: InputFormat) -> str:
    if written.delimiter and written.delimiter in line:
        return written.delimiter
    counts = {one: len(_fields(line, one)) for one in _DELIMITERS}
    fitting = [one for one, count in counts.items() if count == len(written.header)]
    return (fitting or [max(_DELIMITERS, key=counts.__getitem__)])[0]


def _fields(line: str, delimiter: str) -> list[str]:
    if len(delimiter) > 1:
        line, delimiter = line.replace(delimiter, _STAND_IN), _STAND_IN
    return next(csv.reader([line.replace("\r", " ")], delimiter=delimiter), [])


def read_tables(
    blocks: Iterator[bytes], layout: Layout, newlines_in_values: bool
) -> Iterator[pa.Table]:
    """Yield the records of blocks of lines as tables of strings, and tables of MALFORMED lines.

    An empty value is null. Comments and the header are in `blocks`.
    """
    before, rest = layout.before, b""
    for block, following in itertools.pairwise(itertools.chain(blocks, [None])):
        lines = rest + (block or b"")
        if before:
            lines, before = _without_first(lines, before)
        if lines:
            records, rest = _records(lines, layout, newlines_in_values, following is None)
            yield from records.parse()


def _without_first(block: bytes, count: int) -> tuple[bytes, int]:
    """Return a block without its first lines, and how many are still to leave out."""
    parts = block.split(b"\n", count)
    return parts[-1], count - (len(parts) - 1)


class _Records:
    """The records of a block: lines, or lines that were joined."""

    def __init__(self, block: bytes, starts: np.ndarray, layout: Layout) -> None:
        self._block, self._layout = block, layout
        self._bounds = np.append(starts, len(block))
        content = np.frombuffer(block, np.uint8)
        lengths = np.diff(self._bounds)
        blank = (lengths == 1) | ((lengths == 2) & (content[starts] == _RETURN))
        self._filled = np.append(0, np.cumsum(~blank))  # records before each that are not blank
        self._tables: list[pa.Table] = []
        self._malformed: list[tuple[str, str]] = []  # text, reason

    def parse(self) -> Iterator[pa.Table]:
        """Yield a table of the rows and a table of MALFORMED lines, where there are some."""
        begun = 0
        for alone in [*self._odd().tolist(), len(self._bounds) - 1]:
            self._parse(begun, alone)
            self._parse(alone, min(alone + 1, len(self._bounds) - 1))
            begun = alone + 1
        if self._tables:
            yield pa.concat_tables(self._tables).combine_chunks()
        if self._malformed:
            texts, why = zip(*self._malformed, strict=True)
            yield pa.table({MALFORMED: list(texts), REASON: list(why)})

    def _odd(self) -> np.ndarray:
        """Return the records that are not UTF-8 or have a carriage return within, ascending."""
        content = np.frombuffer(self._block, np.uint8)
        odd = [np.empty(0, int)]
        if b"\r" in self._block:
            returns = np.flatnonzero(content[:-1] == _RETURN)
            odd.append(self._at(returns[content[returns + 1] != _NEWLINE]))
        if not _is_utf8(self._block):
            high = np.unique(self._at(np.flatnonzero(content > 127)))
            bad = [at for at in high.tolist() if not _is_utf8(self._lines(at, at + 1))]
            odd.append(np.array(bad, int))
        return np.unique(np.concatenate(odd))

    def _at(self, offsets: np.ndarray) -> np.ndarray:
        """Return the record at each offset of the block."""
        return np.searchsorted(self._bounds, offsets, side="right") - 1

    def _lines(self, begin: int, end: int) -> bytes:
        return self._block[self._bounds[begin] : self._bounds[end]]

    def _parse(self, begin: int, end: int) -> None:
        """Parse some records, in halves if they are not what they should be."""
        count = int(self._filled[end] - self._filled[begin])
        if not count:
            return
        lines = self._lines(begin, end)
        found = None
        if end - begin > 1 or _is_utf8(lines):  # fast where all lines are of another encoding
            found = _rows(lines, count, self._layout)
        if found is not None:
            table, malformed = found
            self._tables.append(table)
            self._malformed += [
                (self._layout.as_written(text), MALFORMED_LINE) for text in malformed
            ]
        elif end - begin == 1:
            text = lines.decode(errors="backslashreplace").rstrip("\r\n")
            self._malformed.append((self._layout.as_written(text), _why(lines)))
        else:
            middle = (begin + end) // 2
            self._parse(begin, middle)
            self._parse(middle, end)


def _rows(lines: bytes, count: int, layout: Layout) -> tuple[pa.Table, list[str]] | None:
    """Return `count` records as a table and the texts of malformed ones.

    It is None if pyarrow finds another number of records.
    """
    malformed: list[str] = []

    def keep(row: pa.csv.InvalidRow) -> str:
        malformed.append(row.text)
        return "skip"

    # A last record of ours: a quote that is open at the end takes it for a part of the value.
    content = lines + f"{_END}{layout.parsed_delimiter * (len(layout.columns) - 1)}\n".encode()
    try:
        table = pa.csv.read_csv(
            pa.py_buffer(content),
            pa.csv.ReadOptions(
                column_names=list(layout.columns), block_size=len(content) + 1, use_threads=False
            ),
            pa.csv.ParseOptions(
                delimiter=layout.parsed_delimiter, newlines_in_values=True, invalid_row_handler=keep
            ),
            # Strings, so that a dead row is reported as it was written.
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(layout.columns, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid:
        return None
    rows = table.num_rows - 1
    if rows < 0 or rows + len(malformed) != count or table[0][rows].as_py() != _END:
        return None
    return table.slice(0, rows), malformed


def _is_utf8(text: bytes) -> bool:
    try:
        pa.array([text], pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def _why(line: bytes) -> str:
    """Return the reason against a line that pyarrow does not take for one record."""
    if not _is_utf8(line):
        return NOT_UTF8
    return OPEN_QUOTE if b'"' in line else MALFORMED_LINE


def _records(
    block: bytes, layout: Layout, newlines_in_values: bool, is_last: bool
) -> tuple[_Records, bytes]:
    """Return the records of a block, and the lines of one that goes on in the next block."""
    delimiter = layout.parsed_delimiter.encode()
    if len(layout.delimiter) > 1:
        block = block.replace(layout.delimiter.encode(), delimiter)
    if layout.trailing:
        for newline in (b"\n", b"\r\n"):
            block = block.replace(delimiter + newline, newline)
    starts = np.append(0, np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE) + 1)
    end = len(block)
    if newlines_in_values and b'"' in block:
        starts, end = _joined(block, starts, layout, is_last)
    return _Records(block[:end], starts[:-1], layout), block[end:]


def _joined(
    block: bytes, starts: np.ndarray, layout: Layout, is_last: bool
) -> tuple[np.ndarray, int]:
    """Join lines whose quoted values hold newlines; return the bounds of the records and the end.

    Lines are joined only if they are one record with all columns. A quote that does not end within
    128 KiB, the longest field of Python's reader, is a stray one: its lines stay records.
    """
    quotes = np.add.reduceat(np.frombuffer(block, np.uint8) == _QUOTE, starts[:-1])
    is_start, done = np.ones(len(starts), bool), 0
    for at in np.flatnonzero(quotes % 2).tolist():  # a record that goes on has an odd number
        if at < done:
            continue
        lines = (
            block[a:b].decode(errors="replace") for a, b in itertools.pairwise(starts[at:].tolist())
        )
        reader = csv.reader(lines, delimiter=layout.parsed_delimiter, strict=True)
        try:
            fields = next(reader)
        except csv.Error as error:
            if "unexpected end of data" in str(error) and not is_last:
                return starts[: at + 1][is_start[: at + 1]], int(starts[at])
            continue
        if len(fields) == len(layout.columns):
            done = at + reader.line_num
            is_start[at + 1 : done] = False
    return starts[is_start], len(block)
