"""What a pipeline takes over from the stages before it."""

import argparse
import logging
from typing import Any

from pipelines import flags as command_line
from pipelines.workspace import Workspace, digest
from transforms import files
from transforms import schemas as col
from transforms.errors import InputError
from transforms.evaluation_metrics import finite
from transforms.held_out import HeldOut
from transforms.manifest import read_manifest

log = logging.getLogger("interest-explorer")

# Flags that say which interactions there are: the same as for the transitions.
_OF_LOG = ("since", "until", "row_restriction")
# Stages whose data quality, times and versions the report tells.
_TOLD = ("clusters", "transitions", "language_model", "novelty_table", "retrieval")


def held_out(workspace: Workspace) -> HeldOut:
    """Return how mine_transitions kept users and times apart."""
    mined = workspace.manifest("transitions")["flags"]
    cut = command_line.cut(argparse.Namespace(cut=mined["cut"]))
    return HeldOut(mined["valid_share"], mined["test_share"], mined["seed"], cut)


def check_log(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError for another log than the one that the transitions were mined from."""
    mined = workspace.manifest("transitions")
    for name in _OF_LOG:
        given, then = getattr(flags, name), mined["flags"][name]
        if given != then:
            raise InputError(
                f"--{name} is {given or 'not given'}, but {workspace.folder('transitions')} was "
                f"mined with {then or 'none'}: give the same, since its test users are asked for"
            )
    if digest(command_line.source(flags, "interactions").fingerprint()) != mined["inputs"].get(
        "interactions"
    ):
        log.warning(
            "evaluate: --interactions changed since the transitions were mined; what it has of "
            "test users now is evaluated"
        )


def facts(flags: argparse.Namespace, workspace: Workspace) -> dict[str, Any]:
    """Return what metrics.json says of the stages before."""
    found = {stage: read_manifest(workspace.folder(stage)) for stage in _TOLD}
    stages = {stage: manifest for stage, manifest in found.items() if manifest is not None}
    told = ("rows", "dead_letter", "seconds", "packages")
    history = files.read_parquet(
        workspace.folder("language_model", "history.parquet"), col.FINETUNE_HISTORY
    )
    return {
        "level": workspace.level("retrieval"),
        "split": stages["transitions"]["flags"]["split"],
        "seed": flags.seed,
        "bootstrap_samples": flags.bootstrap_samples,
        "finetuning": finite(history),
        "data": {
            "stages": {
                stage: {name: manifest[name] for name in told} for stage, manifest in stages.items()
            }
        },
    }
