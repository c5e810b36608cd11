"""Whether a stage is complete for a plan, and what an interrupted run left that it can keep."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipelines.launch.workspace import Workspace
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.files import FileRecord
from transforms.storage.manifest import MANIFEST, StagePlan, read_manifest

log = logging.getLogger("interest-explorer")


def is_complete(folder: str, plan: StagePlan) -> bool:
    """Say whether a folder holds the intact files of a finished run of this plan."""
    manifest = read_manifest(folder)
    if manifest is None or not _is_of_plan(manifest, plan):
        return False
    return not files.altered(folder, _records(manifest))


def prepare(
    workspace: Workspace,
    stage_folder: str,
    plan: StagePlan,
    *,
    kept: Sequence[str],
    resumes: bool,
    commits: bool,
    discard_partial: bool,
) -> None:
    """Keep what a run of the same plan left, if the stage can use it, and delete the rest.

    Parameters
    ----------
    kept
        Names of files in the folder that the stage starts from: they are not deleted.
    resumes
        The stage uses what an interrupted run left.
    commits
        The stage commits its files one by one; intact ones of a damaged stage are kept too.
    discard_partial
        Delete committed files of an interrupted run with another plan.

    Raises
    ------
    InputError
        If an interrupted run with another plan has committed files.
    """
    folder, unfinished = workspace.folder(stage_folder), workspace.unfinished(plan.pipeline)
    manifest, note = files.join(folder, MANIFEST), files.join(unfinished, "plan.json")
    committed = workspace.committed(stage_folder, plan.pipeline)
    content = json.dumps(asdict(plan), sort_keys=True).encode()
    begun = json.loads(files.read_if_there(note) or b"null")
    complete = read_manifest(folder)
    if commits and complete is not None and _is_of_plan(complete, plan):
        log.info("%s: files are missing or were altered; they are made again", plan.pipeline)
        committed.adopt(_records(complete))
        files.write_bytes(note, content)
    elif resumes and begun is not None and _is_of_plan(begun, plan):
        log.info("%s: resumes an interrupted run", plan.pipeline)
    else:
        if begun is not None and not discard_partial and (count := committed.count()):
            raise InputError(
                f"{folder} holds {count:,} files of an interrupted run with other "
                f"{' and '.join(_differences(begun, plan))}: they cannot be mixed. Give the same "
                "as then to resume that run, or --discard_partial to delete its files"
            )
        files.delete_file(manifest)
        _delete(folder, kept)
        files.delete_folder(unfinished)
        files.write_bytes(note, content)
    files.delete_file(manifest)  # before anything that makes the stage incomplete
    files.delete_unfinished(folder)
    files.delete_folder(workspace.dead_letter(plan.pipeline))


def _delete(folder: str, kept: Sequence[str]) -> None:
    """Delete a folder, but not the files with some names."""
    if not kept:
        return files.delete_folder(folder)
    paths = [files.join(folder, name) for name in kept]
    for path in files.list_folder(folder):
        if path not in paths:
            files.delete_file(path)


def _records(manifest: dict[str, Any]) -> list[FileRecord]:
    return [FileRecord(**file) for file in manifest["files"]]


def _is_of_plan(noted: dict[str, Any], plan: StagePlan) -> bool:
    """Say whether a manifest, or the note of a run that has begun, is of a plan."""
    planned = json.loads(json.dumps(asdict(plan)))
    return all(noted.get(name) == value for name, value in planned.items())


def _differences(noted: dict[str, Any], plan: StagePlan) -> list[str]:
    """Name the inputs and flags that differ from those of a run that has begun."""
    names = []
    for kind, prefix in (("inputs", ""), ("flags", "--")):
        then, now = noted.get(kind, {}), json.loads(json.dumps(asdict(plan)))[kind]
        names += [
            prefix + name for name in sorted({*then, *now}) if then.get(name) != now.get(name)
        ]
    return names or ["level"]
