"""A novelty table that failed its gates goes nowhere, unless it is forced."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from pipelines import build_novelty_table, explore, recommend
from pipelines.launch.check_gates import check_gates, failed_gates
from pipelines.launch.shared_flags import IGNORE_GATES, SEED, WORKSPACE
from pipelines.launch.stage import Stage
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.errors import InputError
from transforms.storage.manifest import RowCounts
from transforms.tables.load_bigquery import LoadTable

GATES = {
    "match_rate": {"value": 0.42, "threshold": 0.9, "passed": False, "why": ""},
    "recall": {"value": 0.05, "threshold": 0.015, "passed": True, "why": ""},
    "changed": {"value": 0.71, "threshold": 0.5, "passed": False, "why": ""},
    "coverage": {"value": None, "threshold": 0.25, "passed": False, "why": ""},
}
SAID = (
    "the novelty table failed its gates: match_rate is 0.42, at least 0.9 is required; changed is "
    "0.71, at most 0.5 is required; coverage could not be measured, 0.25 is required"
)


def write_stage(root: Path, folder: str, inputs: dict[str, str], seed: int = 0) -> None:
    """Write the manifest of a stage; the seed stands for what it decided."""
    files: list[dict[str, Any]] = []
    content = {"inputs": inputs, "flags": {}, "files": files, "level": seed}
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "manifest.json").write_text(json.dumps(content))


def write_report(root: Path, gates: dict[str, Any] = GATES) -> None:
    """Write a report on the novelty table that is there."""
    table = Workspace(str(root)).fingerprint("novelty_table")
    write_stage(root, "report", {"novelty_table": table})
    (root / "report" / "metrics.json").write_text(json.dumps({"gates": gates}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for stage in ("clusters", "transitions", "retrieval", "novelty_table"):
        write_stage(tmp_path / "w", stage, {})
    return tmp_path / "w"


def test_no_report_is_no_refusal(root: Path) -> None:
    assert failed_gates(Workspace(str(root))) == {}


def test_failed_gates_are_named_passed_ones_are_not(root: Path) -> None:
    write_report(root)
    assert [*failed_gates(Workspace(str(root)))] == ["match_rate", "changed", "coverage"]


def test_a_report_on_another_table_says_nothing(root: Path) -> None:
    write_report(root)
    write_stage(root, "novelty_table", {}, seed=1)
    assert failed_gates(Workspace(str(root))) == {}


def test_a_report_that_is_not_complete_says_nothing(root: Path) -> None:
    write_report(root)
    (root / "report" / "manifest.json").unlink()
    assert failed_gates(Workspace(str(root))) == {}


def test_a_report_with_passed_gates_refuses_nothing(root: Path) -> None:
    write_report(root, {"recall": GATES["recall"]})
    check_gates(argparse.Namespace(ignore_gates=False), Workspace(str(root)))


def test_recommend_refuses_in_one_line(root: Path, capsys) -> None:
    write_report(root)
    code = recommend.STAGE.main([f"--workspace={root}"])
    assert code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line == (
        f"error: {SAID}. {root}/report/index.html says why and what helps; give --ignore_gates to "
        "use the table all the same"
    )


def test_force_is_stronger(root: Path) -> None:
    write_report(root)
    workspace = Workspace(str(root))
    with pytest.raises(InputError, match="--ignore_gates"):
        check_gates(argparse.Namespace(ignore_gates=False), workspace)
    check_gates(argparse.Namespace(ignore_gates=True), workspace)


def tallies(*given: Any) -> list[beam.PCollection]:
    raise AssertionError("it is complete")


# A complete novelty table that has yet to be loaded.
EXPORT = Stage(
    name="build_novelty_table",
    folder="novelty_table",
    description="",
    own_flags=(WORKSPACE, SEED, IGNORE_GATES),
    check_release=check_gates,
    level=lambda flags, workspace: 0,
    build=tallies,
    output_schema=col.NOVELTY_TABLE,
)


@pytest.fixture
def exported(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(LoadTable, "is_done", lambda load: True)
    monkeypatch.setattr("pipelines.launch.stage.check_target", lambda *of_load: None)
    plan = {"pipeline": EXPORT.name, "inputs": {}, "flags": {"seed": 0}, "level": 0}
    manifest = json.dumps({**plan, "files": []})
    (root / "novelty_table" / "manifest.json").write_text(manifest)
    return root


TO_BIGQUERY = "--output_table=my-project.shop.table"


def test_a_complete_table_that_failed_is_not_exported(exported: Path, capsys) -> None:
    write_report(exported)
    assert EXPORT.main([f"--workspace={exported}", TO_BIGQUERY]) == 2
    assert SAID in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[TO_BIGQUERY, "--ignore_gates"], []])
def test_force_exports_and_no_export_needs_no_force(exported: Path, flags: list[str]) -> None:
    write_report(exported)
    assert EXPORT.main([f"--workspace={exported}", *flags]) == 0


def test_a_table_that_is_to_be_built_is_not_the_one_reported_on(exported: Path) -> None:
    write_report(exported)
    other = replace(EXPORT, level=lambda flags, workspace: 1)
    with pytest.raises(AssertionError, match="it is complete"):
        other.main([f"--workspace={exported}", TO_BIGQUERY])


def test_a_table_built_again_as_it_was_reported_on_is_not_exported(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    write_report(exported)
    (exported / "novelty_table" / "manifest.json").unlink()
    loads: list[None] = []
    monkeypatch.setattr(LoadTable, "_load", lambda load: loads.append(None))
    again = replace(EXPORT, build=lambda pipeline, *_: [pipeline | beam.Create([RowCounts()])])
    assert again.main([f"--workspace={exported}", TO_BIGQUERY]) == 2
    assert SAID in capsys.readouterr().err
    assert not loads


@pytest.mark.parametrize("pipeline", [recommend, build_novelty_table])
def test_what_shows_a_table_to_users_has_the_flag(pipeline: Any) -> None:
    assert "--ignore_gates" in pipeline.STAGE.parser().format_help()


def test_explore_has_the_flag_too() -> None:
    assert IGNORE_GATES in explore.flags_once()
