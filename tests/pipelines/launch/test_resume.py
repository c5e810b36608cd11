"""Which files of an earlier run a stage keeps, and which it deletes."""

from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest

from pipelines.launch.workspace import Workspace
from tests.pipelines.launch.shout import DISCARD, FLAGS, RUNS, SHOUT, build
from transforms.storage import files
from transforms.storage.manifest import RowCounts


@pytest.mark.parametrize(
    "damage",
    ["words.txt missing", "words.txt cut", "words.txt altered", "manifest.json missing"],
)
@pytest.mark.parametrize("commits", [True, False])
def test_a_damaged_stage_runs_again(run, stage_folder: Path, damage: str, commits: bool) -> None:
    def run_it() -> int:
        return run(stage=replace(SHOUT, commits=commits, resumes=commits))

    run_it()
    name, kind = damage.split()
    path = stage_folder / name
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + (b"?" if kind == "altered" else b""))
    assert run_it() == 0
    assert RUNS == ["shout"] * 2
    assert (stage_folder / "words.txt").read_text() == "HELLO\nWORLD"


def interrupted_after_a_commit(*_: object) -> list:
    Workspace(_[1].workspace).committed("clusters", "shout").write("a", pa.table({"a": [1]}))
    raise RuntimeError


def test_committed_files_of_another_plan_are_neither_mixed_nor_lost(
    run, stage_folder: Path, capsys
) -> None:
    with pytest.raises(RuntimeError):
        run(stage=replace(SHOUT, build=interrupted_after_a_commit, commits=True, resumes=True))
    capsys.readouterr()
    assert run("--seed=1", stage=replace(SHOUT, commits=True, resumes=True)) == 2
    assert "1 files of an interrupted run with other --seed: they cannot be mixed" in (
        capsys.readouterr().err
    )
    assert (stage_folder / "a").exists()
    assert RUNS == []


def test_committed_files_of_another_plan_go_when_told(run, stage_folder: Path) -> None:
    with pytest.raises(RuntimeError):
        run(stage=replace(SHOUT, build=interrupted_after_a_commit, commits=True, resumes=True))
    again = replace(SHOUT, commits=True, resumes=True, own_flags=(*FLAGS, DISCARD))
    run("--seed=1", "--discard_partial", stage=again)
    assert sorted(path.name for path in stage_folder.iterdir()) == ["manifest.json", "words.txt"]


@pytest.mark.parametrize("content", ["", "{", '{"rows": {}}'])
def test_a_manifest_that_says_nothing_is_none(run, stage_folder: Path, content: str) -> None:
    run()
    (stage_folder / "manifest.json").write_text(content)
    assert run() == 0
    assert RUNS == ["shout"] * 2


def test_a_run_wipes_what_others_left(run, tmp_path: Path, stage_folder: Path) -> None:
    run()
    dead = tmp_path / "w" / "dead_letter" / "shout" / "old.jsonl"
    for stray in (stage_folder / "old.parquet", dead):
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_text("old")
    run("--seed=1")
    assert sorted(path.name for path in stage_folder.iterdir()) == ["manifest.json", "words.txt"]
    assert not dead.exists()


def test_a_failing_pipeline_leaves_no_manifest(run, stage_folder: Path) -> None:
    run()
    with pytest.raises(RuntimeError, match="no voice"):
        run("--fail=other")
    assert not (stage_folder / "manifest.json").exists()
    assert run() == 0
    assert (stage_folder / "manifest.json").exists()


def test_a_run_killed_while_it_wipes_leaves_no_manifest(run, stage_folder, monkeypatch) -> None:
    def die(folder: str) -> None:
        raise KeyboardInterrupt

    run()
    monkeypatch.setattr(files, "delete_folder", die)
    assert run("--seed=1") == 130
    assert not (stage_folder / "manifest.json").exists()


@pytest.mark.parametrize("same_plan", [True, False])
@pytest.mark.parametrize("resumes", [True, False])
def test_what_was_left_is_taken_up_for_the_same_plan_alone(
    run, tmp_path: Path, stage_folder: Path, resumes: bool, same_plan: bool
) -> None:
    def fail(*_: object) -> list:
        left = tmp_path / "w" / "unfinished" / "shout" / "checkpoint"
        left.write_text("half")
        (stage_folder / "half.parquet").parent.mkdir(parents=True, exist_ok=True)
        (stage_folder / "half.parquet").write_text("half")
        raise RuntimeError

    found: list[bool] = []

    def look(pipeline, flags, workspace: Workspace) -> list:
        found.append(files.exists(files.join(workspace.unfinished("shout"), "checkpoint")))
        found.append(files.exists(files.join(workspace.folder("clusters"), "half.parquet")))
        return build(pipeline, flags, workspace)

    with pytest.raises(RuntimeError):
        run(stage=replace(SHOUT, build=fail, resumes=resumes))
    flags = [] if same_plan else ["--seed=1"]
    assert run(*flags, stage=replace(SHOUT, build=look, resumes=resumes)) == 0
    assert found == [resumes and same_plan] * 2
    assert not (tmp_path / "w" / "unfinished" / "shout").exists()


def test_temporary_files_lie_where_the_next_run_deletes_them(run, tmp_path: Path) -> None:
    made: list[Path] = []

    def fail(pipeline: beam.Pipeline, *_: object) -> list:
        made.append(Path(pipeline.local_tempdir))
        raise RuntimeError

    def look(*arguments) -> list[beam.PCollection[RowCounts]]:
        assert not made[0].exists()
        return build(*arguments)

    with pytest.raises(RuntimeError):
        run(stage=replace(SHOUT, build=fail, resumes=True))
    assert made[0].is_relative_to(tmp_path / "w" / "unfinished" / "shout")
    made[0].mkdir(parents=True, exist_ok=True)  # as if the run had been killed
    assert run(stage=replace(SHOUT, build=look, resumes=True)) == 0


def test_what_a_killed_writer_left_goes_before_work_is_taken_up(
    run, tmp_path: Path, stage_folder: Path
) -> None:
    def fail(*_: object) -> list:
        stage_folder.mkdir(parents=True)
        (stage_folder / "words.txt.unfinished-1").write_text("ha")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run(stage=replace(SHOUT, build=fail, resumes=True))
    assert run(stage=replace(SHOUT, resumes=True)) == 0
    assert sorted(path.name for path in stage_folder.iterdir()) == ["manifest.json", "words.txt"]
