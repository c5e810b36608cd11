"""Converts input columns of any fitting Arrow type to the types of the project.

Values that are not readable become null or NaN, and the caller reports a reason. A column of
another kind of type raises InputError.
"""

import datetime
import itertools
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.errors import InputError

_BYTES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
_TICKS = {"s": 1, "ms": 1_000}  # per second
_NUMBER = r"^-?\d{1,30}(\.\d{1,30})?([eE]\+?\d{1,2})?$"
_YEAR_1 = -62_135_596_800  # seconds since 1970


def as_texts(column: pa.ChunkedArray, name: str, expected: str = "a text") -> pa.ChunkedArray:
    """Return strings, bytes or numbers as strings; bytes that are not UTF-8 become null.

    An InputError calls the column `name` and asks for `expected`.
    """
    column = _decoded(column)
    if isinstance(column.type, pa.UuidType):  # Arrow knows no text of them
        return pa.chunked_array([[x and str(x) for x in column.to_pylist()]], pa.string())
    if not _holds_bytes(column.type):
        return _cast(column, pa.string(), name, expected)
    # Strings are checked too: Parquet files can hold strings that are not UTF-8.
    encoded = column.cast(pa.binary())
    try:
        return encoded.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.chunked_array([[_decode(value) for value in encoded.to_pylist()]], pa.string())


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionary encoding."""
    is_encoded = pa.types.is_dictionary(column.type)
    return column.cast(column.type.value_type) if is_encoded else column


def _holds_bytes(kind: pa.DataType) -> bool:
    return any(check(kind) for check in _BYTES)


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _cast(column: pa.ChunkedArray, kind: pa.DataType, name: str, expected: str) -> pa.ChunkedArray:
    try:
        return column.cast(kind, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"{name} must be {expected}; this input has {column.type} ({error})"
        ) from None


def not_utf8(column: pa.ChunkedArray) -> np.ndarray:
    """[rows] bool: the value, or a value of the list, is not UTF-8."""
    if _is_list(column.type):
        values, rows = flatten(column)
        found = np.zeros(len(column), bool)
        found[rows[not_utf8(values)]] = True
        return found
    column = _decoded(column)
    if not _holds_bytes(column.type):
        return np.zeros(len(column), bool)
    return pc.and_(pc.is_null(as_texts(column, "texts")), pc.is_valid(column)).to_numpy()


def _is_list(kind: pa.DataType) -> bool:
    return any(check(kind) for check in _LISTS)


def flatten(lists: pa.ChunkedArray) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Return the values of all lists, and the row of each value, [values] int64."""
    # Not list_parent_indices: it counts values behind nulls, which list_flatten leaves out.
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return pc.list_flatten(lists), np.repeat(np.arange(len(lists)), lengths)


def as_ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return ids as strings; missing, empty and blank ids become null.

    Integers get their decimal form. So do whole floats: pandas stores integers with gaps as floats.
    """
    column = _decoded(column)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**53))
        numbers = pc.if_else(whole, column, pa.scalar(None, column.type)).cast(pa.int64())
        column = pc.coalesce(numbers.cast(pa.string()), column.cast(pa.string()))
    ids = as_texts(column, "ids", "strings or integers")
    blank = pc.or_(pc.equal(pc.binary_length(ids), 0), pc.utf8_is_space(ids))
    if not pc.any(blank).as_py():
        return ids
    return pc.if_else(blank, pa.scalar(None, pa.string()), ids)


def as_times(column: pa.ChunkedArray) -> pa.Array:
    """Return times as microseconds since 1970 in UTC; null if the value is not a time.

    Takes timestamps (UTC if they have no zone), dates, seconds since 1970, and strings with such
    seconds or with ISO 8601.
    """
    kind = column.type
    if pa.types.is_date(kind):
        return as_times(column.cast(pa.timestamp("s")))
    if pa.types.is_timestamp(kind) and kind.unit in _TICKS:
        # Far years would overflow as microseconds.
        return _microseconds(column.cast(pa.int64()).to_numpy() / _TICKS[kind.unit])
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).combine_chunks()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _microseconds(column.cast(pa.float64(), safe=False).to_numpy())
    texts = pc.utf8_trim_whitespace(as_texts(column, "timestamp", "a time"))
    is_number = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), True)
    seconds = pc.if_else(is_number, texts, pa.scalar(None, pa.string())).cast(pa.float64())
    others = [_parse_time(text) for text in texts.filter(pc.invert(is_number)).to_pylist()]
    return pc.replace_with_mask(
        _microseconds(seconds.to_numpy()),
        pc.invert(is_number).combine_chunks(),
        pa.array(others, pa.int64()),
    )


def _microseconds(seconds: np.ndarray) -> pa.Array:
    # ISO 8601 begins at the year 1. Far years (from milliseconds, say) stay in the future when
    # they are clipped to the range of the type.
    usable = np.isfinite(seconds) & (seconds >= _YEAR_1)
    rounded = np.round(np.where(usable, np.minimum(seconds, 9e11), 0) * 1e6)
    return pa.array(rounded.astype(np.int64), mask=~usable)


def _parse_time(text: str) -> int | None:
    if text.endswith(" UTC"):  # as BigQuery exports it
        text = text.removesuffix(" UTC") + "+00:00"
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=datetime.UTC)
    return (time - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(
        microseconds=1
    )


def as_numbers(column: pa.ChunkedArray) -> pa.Array:
    """Return numbers as float32; NaN if the value is not a finite number, null if missing."""
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.float32())
    try:
        numbers = column.cast(pa.float64()).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        texts = as_texts(column, "ratings", "numbers")
        numbers = pa.array([_parse_number(text) for text in texts.to_pylist()], pa.float64())
    numbers = numbers.cast(pa.float32())
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(math.nan, pa.float32()))


def _parse_number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return math.nan


def as_keywords(column: pa.ChunkedArray) -> list[list[str]]:
    """Return the keywords of each row, from a list or a comma-separated text, without blanks."""
    if _is_list(column.type):
        values = iter(as_texts(flatten(column)[0], "keywords").to_pylist())
        lengths = pc.list_value_length(column).to_pylist()
        parts_of_rows = [list(itertools.islice(values, length or 0)) for length in lengths]
    else:
        texts = as_texts(column, "keywords", "a text or a list of texts").to_pylist()
        parts_of_rows = [(text or "").split(",") for text in texts]
    return [[text for part in parts if (text := (part or "").strip())] for parts in parts_of_rows]


def as_embeddings(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return embeddings as lists of float32."""
    return _cast(
        column,
        pa.list_(pa.float32()),
        "the embeddings of items",
        "lists of numbers, as Parquet holds them and CSV can't",
    )


def all_finite(lists: pa.ChunkedArray) -> np.ndarray:
    """[rows] bool: all numbers of the list are present and finite."""
    numbers, rows = flatten(lists)
    finite = np.ones(len(lists), bool)
    finite[rows[~pc.fill_null(pc.is_finite(numbers), False).to_numpy()]] = False
    return finite


def as_eligible(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return [rows] bool: true for a missing value, null for an unclear one."""
    texts = as_texts(column, "the column eligible", "true or false")
    words = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    yes = pc.or_(pc.is_in(words, pa.array(["true", "1", "1.0"])), pc.is_null(words))
    no = pc.is_in(words, pa.array(["false", "0", "0.0"]))
    return pc.if_else(pc.or_(yes, no), yes, pa.scalar(None, pa.bool_()))
