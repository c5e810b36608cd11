"""A file system in memory, `memory://...`: what is remote to the code under test."""

import hashlib
import io
from collections.abc import Iterator

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem

CONTENT: dict[str, bytes] = {}


class _Unsaved(io.BytesIO):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            CONTENT[self._path] = self.getvalue()
        super().close()


class MemoryFileSystem(FileSystem):
    """Blobs by name, as an object store has them: without folders, without rename."""

    @classmethod
    def scheme(cls) -> str:
        return "memory"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *(path.strip("/") for path in paths)])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        pass

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path, content in list(CONTENT.items()):
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, len(content))

    def create(self, path, mime_type="", compression_type=CompressionTypes.AUTO) -> io.BytesIO:
        return _Unsaved(path)

    def open(self, path, mime_type="", compression_type=CompressionTypes.AUTO) -> io.BytesIO:
        return io.BytesIO(CONTENT[path])

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            CONTENT[target] = CONTENT[source]

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        self.copy(source_file_names, destination_file_names)
        self.delete(source_file_names)

    def exists(self, path: str) -> bool:
        return path in CONTENT

    def size(self, path: str) -> int:
        return len(CONTENT[path])

    def last_updated(self, path: str) -> float:
        raise NotImplementedError

    def checksum(self, path: str) -> str:
        return hashlib.md5(CONTENT[path]).hexdigest()

    def metadata(self, path: str) -> FileMetadata:
        if path not in CONTENT:
            raise BeamIOError(f"no {path}")
        return FileMetadata(path, len(CONTENT[path]))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            del CONTENT[path]
