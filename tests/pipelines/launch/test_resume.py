"""Which files of an earlier run a stage keeps, and which it deletes."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.launch.workspace import FORMATS, Workspace
from tests.pipelines.launch.shout import DISCARD, ECHO, FLAGS, RUNS, SHOUT, build
from transforms.storage import files
from transforms.storage.commit_log import CommitLog
from transforms.storage.lock import locked


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "damage",
    ["words.txt missing", "words.txt cut", "words.txt altered", "manifest.json cut"],
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


def test_a_run_deletes_what_an_earlier_one_wrote_and_nothing_else(
    run, tmp_path: Path, stage_folder: Path
) -> None:
    run()
    dead = tmp_path / "w" / "dead_letter" / "shout"
    dead.mkdir(parents=True)
    mine = (stage_folder / "run.log", stage_folder / ".mine.parquet", dead / "mine.jsonl")
    for path in (*mine, dead / "part-00000-of-00001.jsonl"):
        path.write_text("old")
    assert run("--seed=1") == 0
    assert all(path.read_text() == "old" for path in mine)
    assert list(dead.iterdir()) == [dead / "mine.jsonl"]


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("begun", ["complete", "damaged", "interrupted"])
@pytest.mark.parametrize("stray", ["items.parquet", "sub/more.json"])
def test_data_that_no_run_wrote_is_refused_by_name_and_stays(
    run, tmp_path: Path, stage_folder: Path, capsys, begun: str, commits: bool, stray: str
) -> None:
    stage = replace(SHOUT, commits=commits, resumes=commits)
    run(stage=stage)
    if begun == "damaged":
        (stage_folder / "manifest.json").write_text("{")
    elif begun == "interrupted":
        (stage_folder / "manifest.json").unlink()
        note = tmp_path / "w" / "unfinished" / "shout" / "plan.json"
        note.parent.mkdir(parents=True)
        note.write_text("{}")
    (stage_folder / stray).parent.mkdir(exist_ok=True)
    (stage_folder / stray).write_text("mine")
    before = tree(tmp_path)
    for flags in ((), ("--seed=1",)):
        assert run(*flags, stage=stage) == 2
        assert f"clusters/{stray} is not a file that the pipeline wrote" in capsys.readouterr().err
    del before[str(tmp_path / "w" / ".lock")]
    assert before.items() <= tree(tmp_path).items()


def test_a_folder_that_is_not_ours_is_refused_by_name(
    run, tmp_path: Path, stage_folder: Path, capsys
) -> None:
    stage_folder.mkdir(parents=True)
    (stage_folder / "words.txt").write_text("mine")
    assert run() == 2
    said = f"{stage_folder} holds words.txt, and neither a manifest nor a plan of this pipeline"
    assert said in capsys.readouterr().err
    assert (stage_folder / "words.txt").read_text() == "mine"
    (stage_folder / "words.txt").unlink()
    mine = tmp_path / "w" / "unfinished" / "shout" / "mine"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert run() == 2
    assert f"{mine} is in a folder of temporary files" in capsys.readouterr().err
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("place", ["clusters", "unfinished/shout", "dead_letter/shout"])
@pytest.mark.parametrize("linked", [True, False])
def test_an_input_in_a_folder_to_be_written_is_refused_before_anything_is_touched(
    run, tmp_path: Path, words: Path, capsys, place: str, linked: bool
) -> None:
    run()
    inside = tmp_path / "w" / place / "words.csv"
    inside.parent.mkdir(parents=True, exist_ok=True)
    words.rename(inside)
    if linked:
        (tmp_path / "link").symlink_to(tmp_path / "w")
        inside = tmp_path / "link" / place / "words.csv"
    before = tree(tmp_path)
    assert run(f"--items={inside}") == 2
    assert f"the input {inside} is in" in capsys.readouterr().err
    del before[str(tmp_path / "w" / ".lock")]
    assert before.items() <= tree(tmp_path).items()


def test_a_linked_folder_of_a_stage_is_emptied_too(run, tmp_path: Path, stage_folder: Path) -> None:
    """It kept the files of an earlier run, and readers took them for those of the later one."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "w").mkdir()
    stage_folder.symlink_to(tmp_path / "disk")
    run()
    manifest = json.loads((stage_folder / "manifest.json").read_text())
    (stage_folder / "half.parquet").write_text("of a run with more shards")
    record = files.record("half.parquet", b"of a run with more shards")
    manifest["files"].append(vars(record))
    (stage_folder / "manifest.json").write_text(json.dumps(manifest))
    assert run("--seed=1") == 0
    assert stage_folder.is_symlink()
    names = sorted(path.name for path in stage_folder.iterdir())
    assert names == ["manifest.json", "words.txt"]


@pytest.mark.parametrize("name", ["../../precious", "/etc/passwd", "a/../../../precious"])
def test_a_manifest_that_names_other_folders_is_refused(
    run, tmp_path: Path, stage_folder: Path, capsys, name: str
) -> None:
    run()
    (tmp_path / "precious").write_text("mine")
    path = stage_folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["path"] = name
    path.write_text(json.dumps(manifest))
    for flags in ((), ("--seed=1",)):
        assert run(*flags) == 2
        assert f"names the file {name!r}, which is not below it" in capsys.readouterr().err
    assert ECHO.main([f"--workspace={tmp_path / 'w'}"]) == 2
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_stage_of_an_older_format_is_built_again(run, stage_folder: Path, monkeypatch) -> None:
    run()
    monkeypatch.setitem(FORMATS, "clusters", 2)
    assert run() == 0
    assert RUNS == ["shout"] * 2


def test_a_stage_of_another_format_is_not_built_on(
    run, tmp_path: Path, monkeypatch, capsys
) -> None:
    run()
    echo = [f"--workspace={tmp_path / 'w'}"]
    monkeypatch.setitem(FORMATS, "clusters", 2)
    assert ECHO.main(echo) == 2
    assert "clusters has the format 1 of an older release; run `python" in capsys.readouterr().err
    monkeypatch.setitem(FORMATS, "clusters", 0)
    assert ECHO.main(echo) == 2
    assert "has the format 1 of a newer release, and this one writes 0" in capsys.readouterr().err


@pytest.mark.parametrize("complete", [True, False])
def test_what_a_newer_release_wrote_is_refused_and_stays(
    run, tmp_path: Path, stage_folder: Path, monkeypatch, capsys, complete: bool
) -> None:
    if complete:
        run()
    else:
        with pytest.raises(RuntimeError):
            run(stage=replace(SHOUT, build=interrupted_after_a_commit, commits=True, resumes=True))
    before = tree(stage_folder)
    monkeypatch.setitem(FORMATS, "clusters", 0)
    assert run() == 2
    assert "has the format 1 of a newer release, and this one writes 0" in capsys.readouterr().err
    assert tree(stage_folder) == before


def test_a_run_killed_while_it_repairs_a_stage_can_be_rerun(
    run, stage_folder: Path, monkeypatch
) -> None:
    def die(*_: object) -> None:
        files.write_bytes(files.join(_[0].notes, "words.txt.json"), b"{}")
        raise KeyboardInterrupt

    stage = replace(SHOUT, commits=True, resumes=True)
    run(stage=stage)
    (stage_folder / "words.txt").write_text("altered")
    with monkeypatch.context() as patch:
        patch.setattr(CommitLog, "adopt", die)
        assert run(stage=stage) == 130
    assert run(stage=stage) == 0
    assert (stage_folder / "words.txt").read_text() == "HELLO\nWORLD"


@pytest.mark.parametrize("content", [b"", b'{"flags": ', b"[]", b"\xff", b"[" * 100_000])
def test_a_damaged_plan_is_a_warning_and_the_stage_runs_anew(
    run, tmp_path: Path, stage_folder: Path, caplog, content: bytes
) -> None:
    stage = replace(SHOUT, commits=True, resumes=True)
    with pytest.raises(RuntimeError):
        run(stage=replace(stage, build=interrupted_after_a_commit))
    (tmp_path / "w" / "unfinished" / "shout" / "plan.json").write_bytes(content)
    assert run(stage=stage) == 0
    assert "plan.json is damaged: nothing of the interrupted run is kept" in caplog.text
    assert sorted(path.name for path in stage_folder.iterdir()) == ["manifest.json", "words.txt"]


def test_two_runs_at_a_time_are_refused(run, tmp_path: Path, capsys) -> None:
    with locked(str(tmp_path / "w"), "other"):
        assert run() == 2
    assert f"a run of other is on its way in {tmp_path / 'w'}: process" in capsys.readouterr().err
    assert run() == 0


def test_a_failing_pipeline_leaves_no_manifest(run, stage_folder: Path) -> None:
    run()
    with pytest.raises(RuntimeError, match="no voice"):
        run("--fail=other")
    assert not (stage_folder / "manifest.json").exists()
    assert run() == 0
    assert (stage_folder / "manifest.json").exists()


def test_a_run_killed_while_it_wipes_leaves_no_manifest(run, stage_folder, monkeypatch) -> None:
    def die(folder: str, keep: str | None = None) -> None:
        raise KeyboardInterrupt

    run()
    with monkeypatch.context() as patch:
        patch.setattr(files, "delete_folder", die)
        assert run("--seed=1") == 130
    assert not (stage_folder / "manifest.json").exists()
    assert run(stage=replace(SHOUT, resumes=True)) == 0


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


def test_what_a_killed_writer_left_goes_before_work_is_taken_up(
    run, tmp_path: Path, stage_folder: Path
) -> None:
    def fail(*_: object) -> list:
        stage_folder.mkdir(parents=True)
        (stage_folder / f"words.txt.unfinished-{'0' * 32}").write_text("ha")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run(stage=replace(SHOUT, build=fail, resumes=True))
    assert run(stage=replace(SHOUT, resumes=True)) == 0
    assert sorted(path.name for path in stage_folder.iterdir()) == ["manifest.json", "words.txt"]
