"""Cloud Storage beyond Beam's file system: whole objects with checksums, several at a time.

An upload is atomic: an object appears whole, without a rename. google-cloud-storage verifies the
checksums of uploads and downloads. Beam's writer does not, and Beam has no listing with checksums.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.api_core.retry import Retry
    from google.cloud.storage import Blob, Bucket, Client

RETRY_SECONDS = 120.0  # for which a request is retried while the service is unavailable
_PARALLEL = 8  # requests; a client keeps 10 connections


@dataclass(frozen=True)
class Stored:
    """An object, as a listing describes it."""

    path: str
    size: int  # bytes
    crc32c: str  # in base64
    updated: float  # seconds since 1970


def read(path: str) -> bytes | None:
    """Read an object; None if it is missing."""
    from google.api_core.exceptions import NotFound

    try:
        return _read(_client(), path)
    except NotFound:
        return None


def read_all(paths: Iterable[str]) -> list[bytes]:
    """Read objects; NotFound if one is missing."""
    client = _client()
    return _parallel(lambda path: _read(client, path), paths)


def write(path: str, content: bytes) -> None:
    """Write an object."""
    with _errors_name(path):
        _blob(_client(), path).upload_from_string(
            content, "application/octet-stream", retry=_retry()
        )


@dataclass(frozen=True)
class Versioned:
    """An object and the generation that it had."""

    content: bytes
    generation: int
    updated: float  # seconds since 1970


def read_versioned(path: str) -> Versioned | None:
    """Read an object with its generation; None if it is missing, or changes meanwhile."""
    from google.api_core.exceptions import NotFound, PreconditionFailed

    bucket, name = _parse(path)
    try:
        with _errors_name(path):
            if (blob := _client().bucket(bucket).get_blob(name, retry=_retry())) is None:
                return None
            generation, updated = int(blob.generation), blob.updated.timestamp()
            content = blob.download_as_bytes(if_generation_match=generation, retry=_retry())
    except (NotFound, PreconditionFailed):  # deleted or written again in between
        return None
    return Versioned(content, generation, updated)


def write_if(path: str, content: bytes, generation: int) -> int | None:
    """Write an object if it has a generation (0: it is missing), and return the new one.

    None if it has another: somebody else wrote or deleted it.
    """
    from google.api_core.exceptions import PreconditionFailed

    blob = _blob(_client(), path)
    try:
        with _errors_name(path):
            blob.upload_from_string(content, if_generation_match=generation, retry=_retry())
    except PreconditionFailed:
        return None
    return int(blob.generation)


def delete_if(path: str, generation: int) -> None:
    """Delete an object if it has a generation."""
    from google.api_core.exceptions import NotFound, PreconditionFailed

    with suppress(NotFound, PreconditionFailed), _errors_name(path):
        _blob(_client(), path).delete(if_generation_match=generation, retry=_retry())


def upload(source: Path, path: str) -> None:
    """Copy a local file to an object, without holding it in memory."""
    with _errors_name(path):
        _blob(_client(), path).upload_from_filename(
            str(source), "application/octet-stream", retry=_retry()
        )


def download(copies: Iterable[tuple[str, Path]]) -> None:
    """Copy objects to local files; NotFound if one is missing."""
    client = _client()

    def copy(pair: tuple[str, Path]) -> None:
        path, target = pair
        target.parent.mkdir(parents=True, exist_ok=True)
        with _errors_name(path):
            _blob(client, path).download_to_filename(str(target), raw_download=True, retry=_retry())

    _parallel(copy, copies)


def listing(folder: str) -> list[Stored]:
    """List all objects below a folder by name, without the placeholders of empty folders."""
    return starting_with(f"{folder.rstrip('/')}/")


def starting_with(prefix: str) -> list[Stored]:
    """List all objects with a path prefix, like `listing`."""
    bucket, name = _parse(prefix)
    with _errors_name(prefix):
        blobs = _client().list_blobs(bucket, prefix=name, retry=_retry())
        return [_stored(blob) for blob in blobs if not blob.name.endswith("/")]


def delete(paths: Iterable[str]) -> None:
    """Delete objects; a missing object is no error."""
    from google.api_core.exceptions import NotFound

    client = _client()

    def delete_one(path: str) -> None:
        with suppress(NotFound), _errors_name(path):
            _blob(client, path).delete(retry=_retry())

    _parallel(delete_one, paths)


def bucket_of(path: str) -> Bucket:
    """Return the bucket of a path."""
    with _errors_name(path):
        return _client().get_bucket(_parse(path)[0], retry=_retry())


def _client() -> Client:
    from apache_beam.io.filesystems import FileSystems

    # Beam has no public access to its client, which has the credentials of the pipeline's options.
    return FileSystems.get_filesystem("gs://")._gcsIO().client


def _retry() -> Retry:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(RETRY_SECONDS)


def _parallel(function: Callable[[Any], Any], arguments: Iterable[Any]) -> list[Any]:
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(function, arguments))


def _parse(path: str) -> tuple[str, str]:
    bucket, _, name = path.removeprefix("gs://").partition("/")
    return bucket, name


def _blob(client: Client, path: str) -> Blob:
    bucket, name = _parse(path)
    return client.bucket(bucket).blob(name)


def _read(client: Client, path: str) -> bytes:
    with _errors_name(path):
        return _blob(client, path).download_as_bytes(raw_download=True, retry=_retry())


def _stored(blob: Blob) -> Stored:
    path = f"gs://{blob.bucket.name}/{blob.name}"
    return Stored(path, blob.size, blob.crc32c, blob.updated.timestamp())


@contextmanager
def _errors_name(path: str) -> Iterator[None]:
    """Raise errors of the library again as one line: the path, and the message of the service."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError

    try:
        yield
    except RetryError as error:
        raise _named(path, error.cause or error) from error
    except GoogleAPICallError as error:
        raise _named(path, error) from error


def _named(path: str, error: Exception) -> GoogleAPICallError:
    from google.api_core.exceptions import GoogleAPICallError, from_http_status

    if isinstance(error, GoogleAPICallError):
        code, said = error.code or 500, _message(error.message)
    elif (response := getattr(error, "response", None)) is not None:  # of an upload or a download
        code, said = response.status_code, _message(response.text)
    else:
        code, said = 503, " ".join(str(error).split())
    return from_http_status(code, f"{path}: {said or HTTPStatus(code).phrase}")


def _message(text: str) -> str:
    """Return the message of the service, without the text that the library puts around it.

    >>> _message("GET https://host/b/shop?alt=json: There is no shop.")
    'There is no shop.'
    """
    text = re.sub(r"^[A-Z]+ https?://\S+ ", "", text).split("('Request failed")[0].rstrip(": \n")
    with suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["error"]["message"]
    return " ".join(text.split())
