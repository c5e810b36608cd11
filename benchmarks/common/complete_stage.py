"""The manifest that makes a folder with synthetic files a complete stage."""

import time
from pathlib import Path
from typing import Any

from pipelines.launch.workspace import FORMATS, PIPELINES
from transforms.storage import files
from transforms.storage.manifest import MANIFEST, RowCounts, StagePlan, write_manifest


def complete_stage(folder: Path, flags: dict[str, Any]) -> None:
    """Write the manifest of a stage, named as the folder, with all files that are there."""
    (folder / MANIFEST).unlink(missing_ok=True)
    records = files.folder_records(str(folder))
    plan = StagePlan(PIPELINES[folder.name], {}, flags, 0, FORMATS[folder.name])
    write_manifest(str(folder), plan, {}, time.time(), RowCounts(files=tuple(records)))
