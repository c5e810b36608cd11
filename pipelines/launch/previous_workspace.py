"""The earlier workspace that --previous_workspace names."""

import argparse
import os

from pipelines.launch.workspace import Workspace
from transforms.errors import InputError, as_input_error
from transforms.storage import files


def previous_files(flags: argparse.Namespace) -> list[str]:
    """Return the files of the earlier clusters that new ones begin with.

    Raises
    ------
    InputError
        If they are not complete, altered, or those of this workspace.
    """
    earlier = Workspace(flags.previous_workspace)
    if _same_place(flags.previous_workspace, flags.workspace):
        raise InputError(
            f"--previous_workspace={flags.previous_workspace} is the workspace of this run; name "
            "that of an earlier one, or give this run another --workspace"
        )
    with as_input_error("--previous_workspace: "):
        records = earlier.manifest("clusters")["files"]
        earlier.verify("clusters")
    names = [record["path"] for record in records]
    read = (name for name in names if name.startswith(("clusters.", "item_clusters/")))
    return [earlier.folder("clusters", name) for name in sorted(read)]


def _same_place(one: str, other: str) -> bool:
    if files.is_local(one) and files.is_local(other):
        return os.path.realpath(one) == os.path.realpath(other)
    return one.rstrip("/") == other.rstrip("/")
