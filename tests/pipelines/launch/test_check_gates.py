"""A novelty table reaches users only after a report that passes, unless its gates are ignored."""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from pipelines import build_novelty_table, explore, recommend
from pipelines.launch.check_gates import check_gates, check_not_failed
from pipelines.launch.shared_flags import IGNORE_GATES, SEED, WORKSPACE
from pipelines.launch.stage import Stage
from pipelines.launch.workspace import FORMATS, PIPELINES, Workspace
from transforms import schemas as col
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.files import FileRecord
from transforms.storage.manifest import RowCounts, StagePlan, write_manifest
from transforms.tables.load_bigquery import LoadTable


def gate(value: float | None, threshold: float, bound: str, passed: bool) -> dict[str, Any]:
    return {"value": value, "threshold": threshold, "bound": bound, "passed": passed, "why": ""}


GATES = {
    "match_rate": gate(0.42, 0.9, "at least", False),
    "recall": gate(0.05, 0.0, "more than", True),
    "popularity": gate(0.0, 0.0, "more than", False),
    "changed": gate(0.71, 0.5, "at most", False),
    "coverage": gate(None, 0.25, "at least", False),
}
PASSED = {"recall": GATES["recall"]}
SAID = (
    "the novelty table failed its gates: match_rate is 0.42, at least 0.9 is required; popularity "
    "is 0, more than 0 is required; changed is 0.71, at most 0.5 is required; coverage could not "
    "be measured, at least 0.25 is required"
)
CHECKED, IGNORED = (argparse.Namespace(ignore_gates=ignored) for ignored in (False, True))


def write_stage(
    root: Path, folder: str, inputs: dict[str, str], level: int = 0, *records: FileRecord
) -> None:
    """Write the manifest of a stage; the level stands for what it decided."""
    plan = StagePlan(PIPELINES[folder], inputs, {}, level, FORMATS[folder])
    write_manifest(str(root / folder), plan, {}, 0.0, RowCounts(files=records))


def write_report(root: Path, gates: dict[str, Any] = GATES) -> None:
    """Write a report on the novelty table that is there."""
    table = Workspace(str(root)).fingerprint("novelty_table")
    content = json.dumps({"gates": gates}).encode()
    record = files.write_record(str(root / "report"), "metrics.json", content)
    write_stage(root, "report", {"novelty_table": table}, 0, record)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "w"
    for stage in ("clusters", "transitions", "novelty_table"):
        write_stage(root, stage, {})
    table = Workspace(str(root)).fingerprint("novelty_table")
    write_stage(root, "retrieval", {"novelty_table": table})
    return root


def refusal(root: Path, check: Callable[..., None] = check_gates) -> str:
    """Return the only line of a refusal, which the override flag lifts."""
    with pytest.raises(InputError) as raised:
        check(CHECKED, Workspace(str(root)))
    check(IGNORED, Workspace(str(root)))
    said = str(raised.value)
    assert "\n" not in said
    return said


def test_a_report_with_passed_gates_refuses_nothing(root: Path) -> None:
    write_report(root, PASSED)
    check_gates(CHECKED, Workspace(str(root)))
    check_not_failed(CHECKED, Workspace(str(root)))


def unlink_manifest(report: Path) -> None:
    (report / "manifest.json").unlink()


def truncate_manifest(report: Path) -> None:
    manifest = report / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-5])


def list_nothing(report: Path) -> None:
    manifest = report / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"files": []}))


def unlink_metrics(report: Path) -> None:
    (report / "metrics.json").unlink()


def empty_metrics(report: Path) -> None:
    (report / "metrics.json").write_bytes(b"")


def edit_metrics(report: Path) -> None:
    (report / "metrics.json").write_text(json.dumps({"gates": PASSED, "edited": True}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (unlink_manifest, "report is not complete, so no gate of the novelty table is passed"),
        (truncate_manifest, "report is not complete, so no gate of the novelty table is passed"),
        (list_nothing, "metrics.json is missing or was altered"),
        (unlink_metrics, "metrics.json is missing or was altered"),
        (empty_metrics, "metrics.json is missing or was altered"),
        (edit_metrics, "metrics.json is missing or was altered"),
    ],
)
@pytest.mark.parametrize("gates", [GATES, PASSED])
def test_a_report_that_is_not_whole_is_no_pass(
    root: Path, damage: Callable[[Path], None], said: str, gates: dict[str, Any]
) -> None:
    write_report(root, gates)
    damage(root / "report")
    assert said in refusal(root)


def test_no_report_is_no_pass(root: Path) -> None:
    assert "report is not complete" in refusal(root)


def test_a_report_on_another_table_is_no_pass(root: Path) -> None:
    write_report(root, PASSED)
    write_stage(root, "retrieval", {"novelty_table": "another"})
    assert "is about another novelty table" in refusal(root)


def test_a_table_that_is_gone_does_not_pass_a_failed_one(root: Path) -> None:
    write_report(root)
    (root / "novelty_table" / "manifest.json").unlink()
    assert SAID in refusal(root)


def test_recommend_refuses_in_one_line(root: Path, capsys) -> None:
    write_report(root)
    code = recommend.STAGE.main([f"--workspace={root}"])
    assert code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line == (
        f"error: {SAID}. {root}/report/index.html says why and what helps; give --ignore_gates to "
        "use the table all the same"
    )


# A table is loaded into BigQuery before its report exists.


def test_a_table_without_a_report_of_its_own_is_not_a_failed_one(root: Path) -> None:
    check_not_failed(CHECKED, Workspace(str(root)))
    write_report(root)
    write_stage(root, "novelty_table", {}, level=1)
    check_not_failed(CHECKED, Workspace(str(root)))


def test_a_table_whose_report_is_edited_is_not_loaded(root: Path) -> None:
    write_report(root)
    edit_metrics(root / "report")
    assert "metrics.json is missing or was altered" in refusal(root, check_not_failed)


def tallies(*given: Any) -> list[beam.PCollection]:
    raise AssertionError("it is complete")


# A complete novelty table that has yet to be loaded.
EXPORT = Stage(
    name="build_novelty_table",
    folder="novelty_table",
    description="",
    own_flags=(WORKSPACE, SEED, IGNORE_GATES),
    check_release=check_not_failed,
    level=lambda flags, workspace: 0,
    build=tallies,
    output_schema=col.NOVELTY_TABLE,
)


@pytest.fixture
def exported(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(LoadTable, "is_done", lambda load: True)
    monkeypatch.setattr("pipelines.launch.stage.check_target", lambda *of_load: None)
    plan = StagePlan(EXPORT.name, {}, {"seed": 0}, 0, FORMATS["novelty_table"])
    write_manifest(str(root / "novelty_table"), plan, {}, 0.0, RowCounts())
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
