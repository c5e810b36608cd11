"""Resolves names that come from files or from objects: below their folder, or refused."""

import os

from apache_beam.io.filesystems import FileSystems

from transforms.errors import InputError


def inside(folder: str, name: str) -> str:
    """Return the path of the file `name` in a folder, local or a URL.

    Raises InputError if the name leads out of the folder, also through a symbolic link. The folder
    itself may be a link.
    """
    path = FileSystems.join(folder, name)
    plain = "\0" not in name and not {"", ".", ".."} & set(name.split("/"))
    if not plain or not is_below(path, folder):
        raise InputError(
            f"{folder} names the file {name!r}, which is not below it; find out who changed the "
            "folder, and use another --workspace"
        )
    return path


def is_below(path: str, folder: str) -> bool:
    """Return whether a path, after its symbolic links, lies below a folder."""
    scheme = FileSystems.get_scheme(path)
    if scheme != FileSystems.get_scheme(folder):
        return False
    if scheme is None:
        path, folder = os.path.realpath(path), os.path.realpath(folder)
    return path.startswith(folder.rstrip("/") + "/")
