"""Whether a stage is complete for a plan, and what an interrupted run left that it can keep."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from pipelines.launch.workspace import PLAN, Workspace, refuse_newer
from transforms.errors import InputError
from transforms.storage import files, stage_files
from transforms.storage.manifest import MANIFEST, StagePlan, parse, read_manifest
from transforms.storage.paths import is_below
from transforms.storage.stage_files import SHARDS, records_of

log = logging.getLogger("interest-explorer")

_DEAD_LETTER = (f"{SHARDS}.jsonl",)


def is_complete(folder: str, plan: StagePlan) -> bool:
    """Say whether a folder holds the intact files of a finished run of this plan.

    Raises InputError if it holds other data too.
    """
    manifest = read_manifest(folder)
    if manifest is None or not _is_of_plan(manifest, plan):
        return False
    if files.altered(folder, records_of(manifest)):
        return False
    stage_files.refuse_unlisted(folder, manifest)
    return True


def refuse_inputs_inside(inputs: Iterable[str], folders: Sequence[str]) -> None:
    """Raise InputError if an input lies in a folder that a stage writes."""
    for path in inputs:
        for folder in folders:
            if is_below(path, folder):
                raise InputError(
                    f"the input {path} is in {folder}, which this pipeline writes; move it to a "
                    "folder outside, or give another --workspace"
                )


def prepare(
    workspace: Workspace,
    stage_folder: str,
    plan: StagePlan,
    outputs: Sequence[str],
    started: float,
    *,
    kept: Sequence[str],
    resumes: bool,
    commits: bool,
    discard_partial: bool,
) -> None:
    """Keep what a run of the same plan left, if the stage can use it, and delete its other files.

    No other file is deleted: only those that the manifest lists or, where a run was interrupted or
    the manifest is damaged, those with a name that the stage writes.

    Parameters
    ----------
    outputs
        Patterns of the names of all files that the stage writes, as of `stage_files.matching`.
    started
        When this run began, in seconds since 1970.
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
        If an interrupted run with another plan has committed files, if a folder holds files and
        neither a manifest nor a plan of ours, if it holds data that the stage did not write, or if
        a newer release wrote it.
    """
    folder, unfinished = workspace.folder(stage_folder), workspace.unfinished(plan.pipeline)
    manifest, note = files.join(folder, MANIFEST), files.join(unfinished, PLAN)
    committed = workspace.committed(stage_folder, plan.pipeline)
    complete, begun = read_manifest(folder), _begun(note)
    for written in (complete, begun):
        refuse_newer(folder, written or {}, plan.format)
    names = stage_files.names_in(folder)
    ours = _ours(folder, names, complete, begun, outputs)
    if begun is None and (left := files.list_folder(unfinished)):
        raise InputError(
            f"{left[0]} is in a folder of temporary files, where no run left it; move it to "
            "another folder, or give another --workspace"
        )
    if commits and complete is not None and _is_of_plan(complete, plan):
        log.info("%s: files are missing or were altered; they are made again", plan.pipeline)
        note_plan(unfinished, plan, started)  # before anything else is in the folder
        committed.adopt(records_of(complete))
    elif resumes and begun is not None and _is_of_plan(begun, plan):
        log.info("%s: resumes an interrupted run", plan.pipeline)
    else:
        if begun and not discard_partial and (count := committed.count()):
            raise InputError(
                f"{folder} holds {count:,} files of an interrupted run with other "
                f"{' and '.join(_differences(begun, plan))}: they cannot be mixed. Give the same "
                "as then to resume that run, or --discard_partial to delete its files"
            )
        files.write_bytes(note, b"{}")  # killed from here on, there is nothing to resume
        files.delete_file(manifest)
        stage_files.delete(folder, ours.intersection(names).difference(kept))
        files.delete_folder(unfinished, keep=PLAN)
    note_plan(unfinished, plan, started)
    files.delete_file(manifest)  # before anything that makes the stage incomplete
    stage_files.delete(folder, stage_files.left_by_killed(stage_files.names_in(folder)))
    dead_letter = workspace.dead_letter(plan.pipeline)
    dead = stage_files.names_in(dead_letter)
    stage_files.delete(
        dead_letter, stage_files.matching(dead, _DEAD_LETTER) | stage_files.left_by_killed(dead)
    )


def _ours(
    folder: str,
    names: Sequence[str],
    complete: dict[str, Any] | None,
    begun: dict[str, Any] | None,
    outputs: Sequence[str],
) -> set[str]:
    """Return the names of the files in a folder that are ours; InputError for other data."""
    if complete is not None:
        ours = {record.path for record in records_of(complete)}
    elif begun is not None or files.exists(files.join(folder, MANIFEST)):
        ours = stage_files.matching(names, outputs)
    elif names:
        raise InputError(
            f"{folder} holds {names[0]}, and neither a manifest nor a plan of this pipeline; move "
            "its files to another folder, or give another --workspace"
        )
    else:
        ours = set()
    ours |= stage_files.left_by_killed(names)
    stage_files.refuse_others(folder, ours, names)
    return ours


def _begun(note: str) -> dict[str, Any] | None:
    """Read the plan of a run that has begun: None if there is none, {} if nothing can be kept."""
    content = files.read_if_there(note)
    plan = parse(content)
    if content is not None and plan is None:
        log.warning("%s is damaged: nothing of the interrupted run is kept", note)
    return plan if content is None else plan or {}


def note_plan(unfinished: str, plan: StagePlan, started: float) -> None:
    """Note a run in its folder, which makes the folder ours; see `WriteManifest` for `started`."""
    content = json.dumps({**asdict(plan), "started": started}, sort_keys=True).encode()
    files.write_bytes(files.join(unfinished, PLAN), content)


def discard_unfinished(unfinished: str) -> None:
    """Delete the folder from which a stage resumes; one without a plan is not ours."""
    if files.exists(files.join(unfinished, PLAN)):
        files.delete_folder(unfinished, keep=PLAN)  # killed on the way, it still is ours
        files.delete_folder(unfinished)


def _is_of_plan(noted: dict[str, Any], plan: StagePlan) -> bool:
    """Say whether a manifest, or the note of a run that has begun, is of a plan."""
    planned = json.loads(json.dumps(asdict(plan)))
    return all(noted.get(name) == value for name, value in planned.items())


def _differences(noted: dict[str, Any], plan: StagePlan) -> list[str]:
    """Name the inputs and flags that differ from those of a run that has begun."""
    names = []
    for kind, prefix in (("inputs", ""), ("flags", "--")):
        then, now = noted.get(kind), json.loads(json.dumps(asdict(plan)))[kind]
        then = then if isinstance(then, dict) else {}
        names += [
            prefix + name for name in sorted({*then, *now}) if then.get(name) != now.get(name)
        ]
    return names or ["level or format"]
