"""Converts input columns of any fitting Arrow type to the types of the project.

Values that are not readable become null or NaN, and the caller reports a reason. A column of
another kind of type raises InputError.
"""

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
# Texts that programs write for a missing value.
_WORDS = ["", "nan", "NaN", "NAN", "None", "NULL", "null", "Null", "\\N", "<NA>", "NaT"]
_MISSING = pa.array(_WORDS)
_YES = pa.array(["true", "1", "1.0", "t", "yes", "y"])
_NO = pa.array(["false", "0", "0.0", "f", "no", "n"])
# A whole number as pandas writes it in a column with gaps. A leading zero makes it another id.
_WHOLE = r"^(-?(?:0|[1-9][0-9]*))\.0+$"


def as_texts(column: pa.ChunkedArray, name: str, expected: str = "a text") -> pa.ChunkedArray:
    """Return strings, bytes or numbers as strings; bytes that are not UTF-8 become null.

    An InputError calls the column `name` and asks for `expected`.
    """
    column = decoded(column)
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


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
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
    column = decoded(column)
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


def missing(column: pa.ChunkedArray) -> np.ndarray:
    """[rows] bool: the value is null, NaN, blank, or a word such as NULL that stands for that."""
    column = decoded(column)
    if pa.types.is_floating(column.type):
        return pc.is_null(column, nan_is_null=True).to_numpy()
    if not _holds_bytes(column.type):
        return pc.is_null(column).to_numpy()
    texts = as_texts(column, "texts")
    words = pc.or_(pc.is_in(texts, _MISSING), pc.utf8_is_space(texts))
    # Bytes that are not UTF-8 are there.
    stands_for_null = pc.and_kleene(pc.is_valid(texts), words)
    return pc.or_kleene(pc.is_null(column), stands_for_null).to_numpy()


def as_ids(column: pa.ChunkedArray, name: str = "ids") -> tuple[pa.ChunkedArray, int]:
    """Return ids as strings, and how many whole numbers were written with decimals, such as 7.0.

    These, whether floats or texts, get the decimal form of an integer: pandas stores integers with
    gaps as floats. Missing ids, and floats too large to tell integers apart, become null. An
    InputError calls the column `name`.
    """
    column = decoded(column)
    if pa.types.is_floating(column.type):
        column = pc.if_else(inexact(column), pa.scalar(None, column.type), column)
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
        whole = pc.equal(pc.floor(column), column)
        numbers = pc.if_else(whole, column, pa.scalar(None, column.type)).cast(pa.int64())
        ids = pc.coalesce(numbers.cast(pa.string()), column.cast(pa.string()))
        return ids, pc.sum(whole).as_py() or 0
    ids = as_texts(column, name, "strings or integers")
    with_decimals = pc.and_(pc.match_substring(ids, ".0"), pc.match_substring_regex(ids, _WHOLE))
    if count := pc.sum(with_decimals).as_py() or 0:
        ids = pc.if_else(with_decimals, pc.replace_substring_regex(ids, _WHOLE, r"\1"), ids)
    if (gone := missing(ids)).any():
        ids = pc.if_else(pa.array(gone), pa.scalar(None, pa.string()), ids)
    return ids, count


def inexact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """[rows] bool: the value is a float beyond which not every integer is one."""
    column = decoded(column)
    if not pa.types.is_floating(column.type):
        return pa.chunked_array([np.zeros(len(column), bool)])
    digits = {16: 11, 32: 24, 64: 53}[column.type.bit_width]
    large = pc.and_(pc.is_finite(column), pc.greater_equal(pc.abs(column), 2.0**digits))
    return pc.fill_null(large, False)


def as_numbers(column: pa.ChunkedArray) -> pa.Array:
    """Return numbers as float32; NaN if the value is not a finite number, null if missing."""
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.float32())
    try:
        numbers = column.cast(pa.float64()).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        texts = as_texts(column, "ratings", "numbers").to_pylist()
        numbers = pa.array(map(_parse_number, texts), pa.float64())
    numbers = numbers.cast(pa.float32())
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(math.nan, pa.float32()))


def _parse_number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return None if text.strip() in _WORDS else math.nan


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
    yes = pc.or_(pc.is_in(words, _YES), pc.is_null(words))
    no = pc.is_in(words, _NO)
    return pc.if_else(pc.or_(yes, no), yes, pa.scalar(None, pa.bool_()))
