"""What explore refuses before any work."""

import argparse
from pathlib import Path

import pytest

from emulators.fixtures import Cloud
from pipelines import explore
from pipelines.launch.stage import Stage
from tests.pipelines import small


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    return [
        f"--workspace={tmp_path / 'w'}",
        f"--items={small.write(tmp_path / 'items.parquet', small.items())}",
        f"--interactions={small.write(tmp_path / 'log.parquet', small.interactions())}",
    ]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--retriever_heads=3", "--retriever_heads is 3, which does not divide dimension 64"),
        ("--finetune_method=half", "--finetune_method 'half' is not one of"),
        ("--base_model=./nowhere", "--base_model: the model './nowhere' does not exist"),
        ("--split_by=time", "--split_by=time needs --train_until"),
        (
            "--train_until=2026-01-31",
            "--train_until=2026-01-31T00:00:00+00:00 needs --split_by=time",
        ),
        ("--dataset=movielens", "give either --dataset or --interactions and --items"),
    ],
)
def test_a_flag_of_a_late_stage_is_refused_at_once(
    arguments: list[str], flag: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explore.main([*arguments, flag]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_a_cut_reaches_all_stages_that_learn_from_the_log(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def run(stage: Stage, flags: argparse.Namespace, beam_flags: list[str]) -> None:
        seen[stage.name] = flags.train_until

    monkeypatch.setattr(Stage, "run", run)
    monkeypatch.setattr(explore, "summary", lambda workspace: "")
    assert explore.main([*arguments, "--split_by=time", "--train_until=2023-11-15"]) == 0
    assert seen["build_clusters"] == "2023-11-15T00:00:00+00:00"


def test_missing_inputs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explore.main([f"--workspace={tmp_path}"]) == 2
    assert "--interactions and --items are missing" in capsys.readouterr().err


def test_what_is_no_dataset_is_refused(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as end:
        explore.main([*arguments, "--output_dataset=shop"])
    assert end.value.code == 2
    assert "'shop' is not a BigQuery dataset; give project.dataset" in capsys.readouterr().err


def test_a_dataset_that_is_not_there_is_refused_before_any_work(
    cloud: Cloud, arguments: list[str], tmp_path: Path, capsys
) -> None:
    assert explore.main([*arguments, "--output_dataset=test-proj.nowhere"]) == 2
    said = "--output_table=test-proj.nowhere.novelty_table: Not found: dataset"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_each_stage_that_can_be_loaded_has_a_table_of_the_dataset() -> None:
    flags = argparse.Namespace(output_dataset="test-proj.shop")
    tables = {stage.name: explore.of_stage(flags, stage).output_table for stage in explore.STAGES}
    assert tables["recommend"] == "test-proj.shop.recommendations"
    assert tables["build_novelty_table"] == "test-proj.shop.novelty_table"
