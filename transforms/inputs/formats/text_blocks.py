"""Text files of any size, encoding and compression as blocks of whole lines in UTF-8."""

import codecs
import csv
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import InputError
from transforms.storage import files

BLOCK_BYTES = 1 << 25
HEAD_BYTES = 1 << 20  # of a file, that are read before any work starts
_LONGEST_LINE = 1 << 28  # bytes

_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\x04\x22\x4d\x18": "lz4",
}
_PARQUET = b"PAR1"
_REFUSED = {
    b"PARE": "an encrypted Parquet file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"ARROW1": "an Arrow file",
    b"PK\x03\x04": "a zip archive or an Excel file",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF file",
    b"\x80\x04": "a pickle file",
    b"\x80\x05": "a pickle file",
    b"\xfd7zXZ": "an xz archive",
}
_BYTE_ORDER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@contextmanager
def read_errors(path: str) -> Iterator[None]:
    """Turn errors of reading into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowInvalid, OSError, UnicodeError, csv.Error) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path} is damaged or is not what its first bytes say ({said})") from None


def parquet_metadata(path: str) -> pq.FileMetaData | None:
    """Return the metadata of a Parquet file; None if the content is of another format."""
    with read_errors(path), files.open_file(path) as file:
        return pq.read_metadata(file) if file.read(len(_PARQUET)) == _PARQUET else None


def is_json(path: str, encoding: str) -> bool:
    """Return whether a text file holds JSON lines; if not, it is delimited.

    Raises InputError for files of other formats.
    """
    with read_errors(path), _decompressed(path) as stream:
        start = stream.read(1 << 12)
    if start.startswith(_PARQUET):
        raise InputError(f"{path} is a compressed Parquet file; decompress it")
    for magic, what in _REFUSED.items():
        if start.startswith(magic):
            raise InputError(f"{path} is {what}; convert it to Parquet, CSV or JSON lines")
    if start.startswith(_BYTE_ORDER_MARKS) and _is_utf8(encoding):
        raise InputError(f"{path} is UTF-16; give --encoding=utf-16")
    text = start.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    if text.startswith("["):
        raise InputError(f"{path} is a JSON array; write one object a line, as `jq -c '.[]'` does")
    return text.startswith("{")


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "ascii", "utf-8-sig")


def _decompressed(path: str) -> pa.NativeFile:
    with files.open_file(path) as file:
        start = file.read(4)
    compressions = (name for magic, name in _COMPRESSIONS.items() if start.startswith(magic))
    return pa.input_stream(files.open_file(path), compression=next(compressions, None))


def read_blocks(path: str, encoding: str, size: int) -> Iterator[bytes]:
    """Yield a file in blocks of about `size` bytes; each ends with the newline of its last line.

    Bytes that are not of the encoding come as they are: they are not UTF-8. Line ends of a file
    with carriage returns alone become newlines.
    """
    rest, is_first, end = b"", True, b"\n"
    with read_errors(path), _decompressed(path) as stream:
        for block in _in_utf8(iter(lambda: stream.read(size), b""), encoding):
            if is_first:
                block = block.removeprefix(codecs.BOM_UTF8)
                end = b"\r" if b"\r" in block and b"\n" not in block else end
                is_first = False
            block = block if end == b"\n" else block.replace(end, b"\n")
            lines, newline, begun = block.rpartition(b"\n")
            if newline:
                yield rest + lines + newline
                rest = begun
            else:
                rest += block
            if len(rest) > _LONGEST_LINE:
                raise InputError(f"{path} has a line of more than 256 MB; is it a text file?")
        if rest:
            yield rest + b"\n"


def _in_utf8(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    if _is_utf8(encoding):
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "surrogateescape")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")
