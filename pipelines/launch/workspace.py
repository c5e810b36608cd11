"""The folders of a workspace and the manifests of its stages."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.commit_log import CommitLog
from transforms.storage.manifest import read_manifest
from transforms.storage.stage_files import records_of, refuse_unlisted

# Folder of the artefacts -> pipeline, in the order in which they run. A new pipeline is a module of
# `pipelines` and a line here.
PIPELINES = {
    "clusters": "build_clusters",
    "transitions": "mine_transitions",
    "language_model": "finetune",
    "novelty_table": "build_novelty_table",
    "retrieval": "train_retrieval",
    "report": "evaluate",
    "recommendations": "recommend",
}
# Raise the number of a folder by one when its pipeline writes other files for the same inputs and
# flags: a stage of an older format is built again, one of a newer format is refused.
FORMATS = dict.fromkeys(PIPELINES, 1)
PLAN = "plan.json"  # in `unfinished`, while a run is on its way or was interrupted


def digest(value: object) -> str:
    """Return the sha256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Workspace:
    """The folders of a workspace."""

    root: str

    def folder(self, *parts: str) -> str:
        """Return a folder or file of the workspace."""
        return files.join(self.root, *parts)

    def dead_letter(self, pipeline: str) -> str:
        """Return the folder of the rows that a pipeline rejected."""
        return self.folder("dead_letter", pipeline)

    def unfinished(self, pipeline: str) -> str:
        """Return the folder from which a stage resumes; deleted once it is complete."""
        return self.folder("unfinished", pipeline)

    def committed(self, folder: str, pipeline: str) -> CommitLog:
        """Return the log of the finished files of a stage that is not complete."""
        return CommitLog(self.folder(folder), files.join(self.unfinished(pipeline), "committed"))

    def fingerprint(self, folder: str) -> str:
        """Return a digest of the files and the level of a complete stage.

        Raises
        ------
        InputError
            If it was built from another version of a stage than the one that is there now.
        """
        manifest = self.manifest(folder)
        for name, seen in manifest["inputs"].items():
            if name not in PIPELINES or read_manifest(self.folder(name)) is None:
                continue
            if self.fingerprint(name) != seen:
                raise InputError(
                    f"{self.folder(folder)} was built from other {name} than there are now; run "
                    f"`python -m pipelines.{PIPELINES[folder]}` again, or pipelines.explore for all"
                )
        return digest([manifest["files"], manifest["level"]])

    def verify(self, folder: str) -> None:
        """Raise InputError if the files of a complete stage are not those that it wrote."""
        manifest = self.manifest(folder)
        for record in files.altered(self.folder(folder), records_of(manifest)):
            raise InputError(
                f"{self.folder(folder, record.path)} is missing or was altered; run `python "
                f"-m pipelines.{PIPELINES[folder]}` again, or pipelines.explore for all"
            )
        refuse_unlisted(self.folder(folder), manifest)

    def level(self, folder: str) -> int:
        """Return the level of the tree of clusters that a complete stage is about."""
        return self.manifest(folder)["level"]

    def manifest(self, folder: str) -> dict[str, Any]:
        """Return the manifest of a complete stage of the present format; InputError otherwise."""
        manifest = read_manifest(self.folder(folder))
        if manifest is None:
            raise InputError(
                f"{self.folder(folder)} is not complete; run `python -m pipelines."
                f"{PIPELINES[folder]} --workspace={self.root}` first, or pipelines.explore for all"
            )
        refuse_newer(self.folder(folder), manifest, FORMATS[folder])
        if manifest["format"] < FORMATS[folder]:
            raise InputError(
                f"{self.folder(folder)} has the format {manifest['format']} of an older release; "
                f"run `python -m pipelines.{PIPELINES[folder]}` again, or pipelines.explore for all"
            )
        return manifest


def refuse_newer(folder: str, written: dict[str, Any], known: int) -> None:
    """Raise InputError if a manifest, or the note of a run, has a newer format than `known`."""
    if isinstance(found := written.get("format"), int) and found > known:
        raise InputError(
            f"{folder} has the format {found} of a newer release, and this one writes {known}; "
            "install that release, or give another --workspace"
        )
