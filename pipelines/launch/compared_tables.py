"""The novelty tables that evaluate compares: --compare_table and --previous_workspace."""

import argparse
import re
from typing import Any

from models.evaluation.policies.policy_names import (
    AFFINITY_POOLED,
    COUNT_POLICIES,
    POOLED,
    PRIOR,
    RETRIEVER,
    RETRIEVER_NOVEL,
    TABLE,
)
from pipelines.launch.flags import Flag
from pipelines.launch.previous_workspace import previous_files
from pipelines.launch.shared_flags import COPY_IT
from pipelines.launch.workspace import FORMATS, Workspace, digest, refuse_newer
from transforms.errors import InputError, as_input_error
from transforms.evaluation.simulate import CONTROLS
from transforms.evaluation.write_report import PreviousTable
from transforms.storage import files
from transforms.storage.manifest import read_manifest
from transforms.storage.stage_files import records_of

_TAKEN = (
    TABLE,
    PRIOR,
    POOLED,
    RETRIEVER,
    RETRIEVER_NOVEL,
    AFFINITY_POOLED,
    *COUNT_POLICIES,
    *CONTROLS,
)


def named_folder(text: str) -> str:
    """Check name=folder; the name must not be that of another policy."""
    name, _, folder = text.partition("=")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or not folder:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not name=folder, such as llm_untuned=build/untuned"
        )
    if name in _TAKEN:
        raise argparse.ArgumentTypeError(f"{name!r} is the name of another policy")
    return text


COMPARE_TABLE = Flag(
    "compare_table",
    "another novelty table of the same clusters to compare, as name=folder, where folder is a "
    "workspace or the novelty_table in it; may be given several times",
    type=named_folder,
    default=[],
    repeated=True,
    in_plan=False,
    unreadable=COPY_IT,
)


def named_tables(flags: argparse.Namespace) -> dict[str, tuple[str, dict[str, Any]]]:
    """Find the tables that --compare_table names: name -> folder and manifest.

    Raises
    ------
    InputError
        If one is not complete, or a name is given twice.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for text in flags.compare_table:
        name, _, given = text.partition("=")
        if name in found:
            raise InputError(f"--compare_table={text}: there are two tables of the name {name}")
        for folder in (files.join(given, "novelty_table"), given):
            manifest = read_manifest(folder)
            if manifest is not None and manifest["pipeline"] == "build_novelty_table":
                refuse_newer(folder, manifest, FORMATS["novelty_table"])
                found[name] = folder, manifest
                break
        else:
            raise InputError(
                f"--compare_table={text}: {given} is neither a complete novelty_table nor a "
                "workspace with one"
            )
    return found


def check_named_tables(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError for a table of other clusters than those of the workspace."""
    clusters, level = workspace.fingerprint("clusters"), workspace.level("retrieval")
    for name, (folder, manifest) in named_tables(flags).items():
        if (manifest["inputs"]["clusters"], manifest["level"]) != (clusters, level):
            raise InputError(
                f"--compare_table {name}: {folder} was built from other clusters or another level "
                f"than {workspace.root} has; only tables of the same clusters can be compared"
            )


def previous_table(flags: argparse.Namespace, workspace: Workspace) -> PreviousTable | None:
    """Return the table that --previous_workspace names, and how its clusters became ours."""
    if flags.previous_workspace is None:
        return None
    earlier, built = Workspace(flags.previous_workspace), workspace.manifest("clusters")
    level = earlier.level("novelty_table")
    # The mapping is of the finest clusters, from those that ours began with.
    began = built["inputs"].get("previous_workspace") == digest(
        files.fingerprints(previous_files(flags))
    )
    finest = len(built["flags"]["clusters"]) - 1
    return PreviousTable(
        clusters=earlier.folder("clusters"),
        level=level,
        table=earlier.folder("novelty_table"),
        mapping=workspace.folder("clusters", "mapping.parquet")
        if began and level == workspace.level("retrieval") == finest
        else None,
    )


def table_files(flags: argparse.Namespace) -> dict[str, list[str]]:
    """Return the files of all these tables, by a name of each."""
    found = {f"table {name}": _files(*table) for name, table in named_tables(flags).items()}
    if flags.previous_workspace is not None:
        earlier = Workspace(flags.previous_workspace)
        with as_input_error("--previous_workspace: "):
            manifest = earlier.manifest("novelty_table")
        found["previous_workspace"] = previous_files(flags)
        found["previous table"] = _files(earlier.folder("novelty_table"), manifest)
    return found


def _files(folder: str, manifest: dict[str, Any]) -> list[str]:
    return [files.join(folder, record.path) for record in records_of(manifest)]
