"""Keeps a novelty table that failed its gates away from users."""

import argparse
import json
from typing import Any

from pipelines.launch.workspace import Workspace
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.manifest import read_manifest

_REPORT, _TABLE = "report", "novelty_table"


def check_gates(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError if the report of the current novelty table says that it failed a gate.

    A table without a report passes, and so does every table with --ignore_gates.
    """
    failed = {} if getattr(flags, "ignore_gates", False) else failed_gates(workspace)
    if failed:
        said = "; ".join(_sentence(name, gate) for name, gate in failed.items())
        raise InputError(
            f"the novelty table failed its gates: {said}. {workspace.folder(_REPORT, 'index.html')}"
            " says why and what helps; give --ignore_gates to use the table all the same"
        )


def failed_gates(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return the gates that the novelty table of a workspace failed, by name."""
    report = read_manifest(workspace.folder(_REPORT))
    content = files.read_if_there(workspace.folder(_REPORT, "metrics.json"))
    if report is None or content is None or read_manifest(workspace.folder(_TABLE)) is None:
        return {}
    if report["inputs"].get(_TABLE) != workspace.fingerprint(_TABLE):
        return {}  # it is about another table
    gates = json.loads(content)["gates"]
    return {name: gate for name, gate in gates.items() if not gate["passed"]}


def _sentence(name: str, gate: dict[str, Any]) -> str:
    value, threshold = gate["value"], gate["threshold"]
    if value is None:
        return f"{name} could not be measured, {threshold:.4g} is required"
    bound = "at least" if value < threshold else "at most"
    return f"{name} is {value:.4g}, {bound} {threshold:.4g} is required"
