"""When a stage runs, when it does not, and what it leaves behind."""

import argparse
import errno
import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest

from pipelines import mine_transitions
from pipelines.launch.flags import Flag, parse
from pipelines.launch.shared_flags import ITEMS, SEED, WORKSPACE
from pipelines.launch.stage import Stage
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.errors import InputError
from transforms.inputs.read_files import ReadTables, find_files
from transforms.storage import files
from transforms.storage.manifest import RowCounts

RUNS: list[str] = []  # names of the stages that were built


FLAGS = (
    WORKSPACE,
    SEED,
    ITEMS,
    Flag("fail", "fails", choices=("input", "other")),
    Flag("level", "level", type=int, default=0),
)


DISCARD = Flag("discard_partial", "discards", switch=True, in_plan=False)


def shout(table: pa.Table, folder: str, fail: str | None) -> RowCounts:
    """Write the words of a table in capitals."""
    if fail == "input":
        raise InputError("--items: the word 'quiet' can't be shouted; leave it out")
    if fail == "other":
        raise RuntimeError("no voice")
    words = "\n".join(table["word"].to_pylist()).upper()
    record = files.write_record(folder, "words.txt", words.encode())
    return RowCounts(table.num_rows, table.num_rows, written=table.num_rows, files=(record,))


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    RUNS.append("shout")
    read = pipeline | ReadTables(tuple(find_files(flags.items, "items")))
    return [read | beam.Map(shout, workspace.folder("clusters"), flags.fail)]


# It takes the place of build_clusters, so that another stage can follow it.
SHOUT = Stage(
    name="shout",
    folder="clusters",
    description="Writes words in capitals.",
    own_flags=FLAGS,
    tables=lambda *_: {"items": ["word"]},
    level=lambda flags, workspace: flags.level,
    build=build,
)


def build_echo(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    RUNS.append("echo")
    return [pipeline | beam.Create([RowCounts()])]


ECHO = Stage(
    name="echo",
    folder="transitions",
    description="Follows the other.",
    own_flags=(WORKSPACE, SEED),
    stages=("clusters",),
    level=lambda flags, workspace: None,
    build=build_echo,
)


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.clear()


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.csv"
    path.write_text("word\nhello\nworld\n")
    return path


@pytest.fixture
def run(tmp_path: Path, words: Path) -> Callable[..., int]:
    def run(*flags: str, stage: Stage = SHOUT) -> int:
        return stage.main([f"--workspace={tmp_path / 'w'}", f"--items={words}", *flags])

    return run


@pytest.fixture
def stage_folder(tmp_path: Path) -> Path:
    return tmp_path / "w" / "clusters"


def test_a_run_leaves_files_and_a_manifest_that_lists_them(run, stage_folder: Path) -> None:
    assert run() == 0
    manifest = json.loads((stage_folder / "manifest.json").read_text())
    assert manifest["rows"] == {"read": 2, "used": 2, "dead": 0, "written": 2}
    assert [file["path"] for file in manifest["files"]] == ["words.txt"]
    assert manifest["flags"] == {"fail": None, "level": 0, "seed": 0}
    assert (stage_folder / "words.txt").read_text() == "HELLO\nWORLD"


def test_a_complete_stage_leaves_nothing_unfinished(run, tmp_path: Path) -> None:
    run()
    assert list((tmp_path / "w" / "unfinished").iterdir()) == []


def test_a_second_run_does_nothing_and_says_so(run, stage_folder: Path, caplog) -> None:
    run()
    before = (stage_folder / "manifest.json").stat().st_mtime_ns
    caplog.set_level(logging.INFO, "interest-explorer")
    assert run() == 0
    assert RUNS == ["shout"]
    assert "shout: complete already, nothing to do" in caplog.messages
    assert (stage_folder / "manifest.json").stat().st_mtime_ns == before


def test_another_flag_runs_it_again(run) -> None:
    run()
    run("--seed=1")
    run("--seed=1", "--level=1")
    assert RUNS == ["shout"] * 3


def test_flags_of_the_runner_do_not_run_it_again(run) -> None:
    run()
    run("--direct_num_workers=1", "--runner=FnApiRunner")
    assert RUNS == ["shout"]


def test_another_content_of_the_input_runs_it_again(run, words: Path, stage_folder: Path) -> None:
    run()
    words.write_text("word\nhello\nplace\n")  # as long as before
    run()
    assert (stage_folder / "words.txt").read_text() == "HELLO\nPLACE"


def test_another_place_of_the_same_input_does_not_run_it_again(run, words: Path) -> None:
    run()
    moved = words.rename(words.with_name("moved.csv"))
    assert run(f"--items={moved}") == 0
    assert RUNS == ["shout"]


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


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_stage_is_not_built_on_damaged_files(
    run, tmp_path: Path, stage_folder: Path, capsys, damage: str
) -> None:
    run()
    if damage == "missing":
        (stage_folder / "words.txt").unlink()
    else:
        (stage_folder / "words.txt").write_text("HELLO\nW0RLD")
    assert ECHO.main([f"--workspace={tmp_path / 'w'}"]) == 2
    assert "clusters/words.txt is missing or was altered; run `python" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")],
)
def test_what_is_wrong_with_the_disk_is_one_line(
    run, capsys, monkeypatch, number: int, said: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/somewhere/words.txt")

    monkeypatch.setattr(logging.root, "handlers", [])  # as outside pytest
    monkeypatch.setattr(files, "write_record", fail)
    assert run() == 1
    assert capsys.readouterr().err == (
        f"error: {said}: '/somewhere/words.txt'; no work is lost: fix the disk and rerun the "
        "same command\n"
    )


def test_information_is_printed_in_place_of_a_run(run, capsys) -> None:
    assert run(stage=replace(SHOUT, inspect=lambda flags, workspace: "half done")) == 0
    assert capsys.readouterr().out == "half done\n"
    assert RUNS == []


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
    with pytest.raises(KeyboardInterrupt):
        run("--seed=1")
    assert not (stage_folder / "manifest.json").exists()


def test_an_input_error_of_a_worker_is_one_line(
    run, stage_folder: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # as outside pytest
    assert run("--fail=input") == 2
    assert capsys.readouterr().err == (
        "error: --items: the word 'quiet' can't be shouted; leave it out\n"
    )
    assert not (stage_folder / "manifest.json").exists()


def test_an_input_that_is_refused_leaves_what_was_there(
    run, words: Path, stage_folder: Path
) -> None:
    run()
    words.write_text("text\nhello\n")
    assert run() == 2
    assert (stage_folder / "manifest.json").exists()


def test_an_input_that_is_refused_is_named(run, words: Path, capsys) -> None:
    words.unlink()
    assert run() == 2
    assert f"error: --items={words}: no such file" in capsys.readouterr().err


def test_an_unknown_flag_ends_with_2_and_a_suggestion(run, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        run("--lvel=3")
    assert end.value.code == 2
    assert "did you mean --level?" in capsys.readouterr().err


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


def test_a_stage_runs_again_when_the_one_before_it_changed(run, tmp_path: Path, words) -> None:
    echo = [f"--workspace={tmp_path / 'w'}"]
    run()
    assert [ECHO.main(echo), ECHO.main(echo)] == [0, 0]
    assert RUNS == ["shout", "echo"]
    words.write_text("word\nbye\n")
    run()
    ECHO.main(echo)
    assert RUNS == ["shout", "echo", "shout", "echo"]


def test_a_stage_whose_predecessor_wrote_the_same_again_is_still_complete(run, tmp_path) -> None:
    echo = [f"--workspace={tmp_path / 'w'}"]
    run()
    ECHO.main(echo)
    run("--seed=1")  # of no effect on the words
    ECHO.main(echo)
    assert RUNS == ["shout", "echo", "shout"]


def test_a_missing_stage_is_named_with_what_to_run(tmp_path: Path, words: Path, capsys) -> None:
    words.write_text("user_id,item_id,timestamp\nu,a,1\n")
    workspace = tmp_path / "empty"
    code = mine_transitions.STAGE.main([f"--workspace={workspace}", f"--interactions={words}"])
    assert code == 2
    assert (
        f"error: {workspace}/clusters is not complete; run `python -m pipelines.build_clusters "
        f"--workspace={workspace}` first" in capsys.readouterr().err
    )


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


def test_a_template_of_a_complete_stage_is_still_a_job(run, tmp_path: Path, monkeypatch) -> None:
    run()
    ran: list[bool] = []
    monkeypatch.setattr(beam.Pipeline, "run", lambda self, *_: ran.append(True) or Done())
    assert run(f"--template_location={tmp_path / 'template'}") == 0
    assert ran == [True]
    assert RUNS == ["shout"]
    assert list((tmp_path / "w" / "unfinished").iterdir()) == []


class Done:
    """The result of a pipeline that was only launched."""

    def wait_until_finish(self) -> None:
        pass


def test_a_stage_built_from_what_is_gone_is_not_built_on(
    run, tmp_path: Path, words: Path, capsys
) -> None:
    workspace = f"--workspace={tmp_path / 'w'}"
    third = replace(
        ECHO, name="third", folder="language_model", stages=("transitions",), resumes=False
    )
    run()
    assert [ECHO.main([workspace]), third.main([workspace])] == [0, 0]
    words.write_text("word\nbye\n")
    run()
    assert third.main([workspace]) == 2
    assert "transitions was built from other clusters than there are now" in capsys.readouterr().err


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


def test_the_project_of_beam_is_that_of_a_loaded_table() -> None:
    stage = replace(ECHO, output_schema=col.NOVELTY_TABLE)
    given = ["--workspace=w", "--output_table=my-project.shop.table", "--project=other-proj"]
    flags, _ = parse(stage.parser(), stage.flags, given)
    assert stage._load(flags).project == "other-proj"
