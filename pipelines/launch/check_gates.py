"""Keeps a novelty table away from users unless its report says that it passed its gates."""

import argparse
import hashlib
import json
from typing import Any

from pipelines.launch.workspace import Workspace
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.manifest import read_manifest

_REPORT, _TABLE, _SERVED, _METRICS = "report", "novelty_table", "retrieval", "metrics.json"
_OVERRIDE = "give --ignore_gates to use the table all the same"


def check_gates(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError unless an intact report says that the served novelty table passed.

    The served table is that in the SavedModel. With --ignore_gates every table passes.
    """
    if flags.ignore_gates:
        return
    report = read_manifest(workspace.folder(_REPORT))
    if report is None:
        raise InputError(
            f"{workspace.folder(_REPORT)} is not complete, so no gate of the novelty table is "
            f"passed; run `python -m pipelines.evaluate` first, or {_OVERRIDE}"
        )
    if report["inputs"].get(_TABLE) != workspace.manifest(_SERVED)["inputs"][_TABLE]:
        raise InputError(
            f"{workspace.folder(_REPORT)} is about another novelty table than that of "
            f"{workspace.folder(_SERVED)}; run `python -m pipelines.evaluate` again, or {_OVERRIDE}"
        )
    _check_verdict(workspace, report)


def check_not_failed(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError if there is a report of the novelty table and it does not pass.

    A table is built before its report: without one it passes.
    """
    if flags.ignore_gates:
        return
    report, table = (read_manifest(workspace.folder(name)) for name in (_REPORT, _TABLE))
    if report is None or table is None:
        return
    if report["inputs"].get(_TABLE) == workspace.fingerprint(_TABLE):
        _check_verdict(workspace, report)


def _check_verdict(workspace: Workspace, report: dict[str, Any]) -> None:
    """Raise InputError unless the metrics are those that the report wrote, and all gates passed."""
    path = workspace.folder(_REPORT, _METRICS)
    content = files.read_if_there(path) or b""
    written = {file["path"]: file["sha256"] for file in report["files"]}.get(_METRICS)
    if hashlib.sha256(content).hexdigest() != written:
        raise InputError(
            f"{path} is missing or was altered; run `python -m pipelines.evaluate` again, or "
            f"{_OVERRIDE}"
        )
    gates = json.loads(content)["gates"]
    failed = {name: gate for name, gate in gates.items() if not gate["passed"]}
    if failed:
        said = "; ".join(_sentence(name, gate) for name, gate in failed.items())
        raise InputError(
            f"the novelty table failed its gates: {said}. {workspace.folder(_REPORT, 'index.html')}"
            f" says why and what helps; {_OVERRIDE}"
        )


def _sentence(name: str, gate: dict[str, Any]) -> str:
    value, required = gate["value"], f"{gate['bound']} {gate['threshold']:.4g} is required"
    if value is None:
        return f"{name} could not be measured, {required}"
    return f"{name} is {value:.4g}, {required}"
