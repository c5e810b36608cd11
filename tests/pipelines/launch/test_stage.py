"""When a stage runs, when it does not, and what it leaves behind."""

import errno
import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest

from pipelines import explore, mine_transitions
from pipelines.launch.flags import parse
from pipelines.launch.shared_flags import ITEMS_FORMAT, TEXTS
from pipelines.launch.workspace import PIPELINES
from tests.pipelines import small
from tests.pipelines.launch.shout import ECHO, RUNS, SHOUT
from transforms import schemas as col
from transforms.storage import files
from transforms.storage.manifest import MANIFEST
from transforms.storage.stage_files import matching


def test_a_run_leaves_files_and_a_manifest_that_lists_them(run, stage_folder: Path) -> None:
    assert run() == 0
    manifest = json.loads((stage_folder / "manifest.json").read_text())
    assert manifest["rows"] == {"read": 2, "used": 2, "dead": 0, "written": 2}
    assert [file["path"] for file in manifest["files"]] == ["words.txt"]
    defaults = {flag.name: flag.default for flag in (*ITEMS_FORMAT, *TEXTS)}
    assert manifest["flags"] == defaults | {"fail": None, "level": 0, "seed": 0}
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


def test_a_stage_is_not_built_on_a_second_set_of_parts(
    run, tmp_path: Path, stage_folder: Path, capsys
) -> None:
    run()
    (stage_folder / "part-00000-of-00001.parquet").write_text("copied in")
    assert ECHO.main([f"--workspace={tmp_path / 'w'}"]) == 2
    said = "clusters/part-00000-of-00001.parquet is not a file that the pipeline wrote; move it"
    assert said in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")],
)
@pytest.mark.parametrize("threads", [False, True])
def test_what_is_wrong_with_the_disk_is_one_line(
    run, capsys, monkeypatch, number: int, said: str, threads: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/somewhere/words.txt")

    monkeypatch.setattr(logging.root, "handlers", [])  # as outside pytest
    monkeypatch.setattr(files, "write_record", fail)
    assert run(stage=replace(SHOUT, threads=threads)) == 1
    assert capsys.readouterr().err == (
        f"error: {said}: '/somewhere/words.txt'; no work is lost: fix the disk and rerun the "
        "same command\n"
    )


def test_information_is_printed_in_place_of_a_run(run, capsys) -> None:
    assert run(stage=replace(SHOUT, inspect=lambda flags, workspace: "half done")) == 0
    assert capsys.readouterr().out == "half done\n"
    assert RUNS == []


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


def test_the_project_of_beam_is_that_of_a_loaded_table() -> None:
    stage = replace(ECHO, output_schema=col.NOVELTY_TABLE)
    given = ["--workspace=w", "--output_table=my-project.shop.table", "--project=other-proj"]
    flags, _ = parse(stage.parser(), stage.flags, given)
    assert stage._load(flags).project == "other-proj"


@pytest.mark.parametrize("folder", PIPELINES)
def test_the_names_of_all_files_of_a_stage_are_declared(shop: Path, folder: str) -> None:
    """After an interruption only files with such names are deleted."""
    path = shop / "workspace" / folder / MANIFEST
    if not path.exists():
        pytest.skip("no stage of the small shop")
    [stage] = [stage for stage in explore.STAGES if stage.folder == folder]
    names = {record["path"] for record in json.loads(path.read_text())["files"]}
    assert matching(names, stage.outputs) == names
    assert matching(["notes.txt", "items.parquet", "mine/a.parquet"], stage.outputs) == set()


MISSHAPEN = [
    lambda manifest: manifest.pop("flags"),
    lambda manifest: manifest.pop("format"),
    lambda manifest: manifest.update(flags={}),
    lambda manifest: manifest["flags"].update(clusters=3),
    lambda manifest: manifest.update(files=[{"path": "a"}]),
    lambda manifest: manifest.update(files={"a": 1}),
    lambda manifest: manifest.update(files=[manifest["files"]]),
    lambda manifest: manifest.update(level="fine"),
    lambda manifest: manifest.update(rows={"read": "many"}),
    lambda manifest: manifest.update(inputs=[]),
    lambda manifest: manifest["files"][0].update(size="big"),
    lambda manifest: manifest["files"][0].update(more=1),
    lambda manifest: manifest["files"][0].update(path="../../x"),
]


@pytest.mark.parametrize("misshape", MISSHAPEN)
def test_a_misshapen_manifest_is_one_line(mined: Path, tmp_path: Path, capsys, misshape) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(mined / "workspace" / "clusters", workspace / "clusters")
    path = workspace / "clusters" / MANIFEST
    manifest = json.loads(path.read_text())
    misshape(manifest)
    path.write_text(json.dumps(manifest))
    assert small.mine(workspace, mined / "log.parquet") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {workspace / 'clusters'}")


def test_explore_refuses_an_input_in_the_folder_of_any_stage(tmp_path: Path, mined, capsys) -> None:
    inside = tmp_path / "report" / "items.parquet"
    inside.parent.mkdir()
    shutil.copy(mined / "items.parquet", inside)
    log = f"--interactions={mined / 'log.parquet'}"
    assert explore.main([f"--workspace={tmp_path}", f"--items={inside}", log]) == 2
    assert f"the input {inside} is in {tmp_path / 'report'}, which this" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
