"""What explore refuses before any work."""

from pathlib import Path

import pytest

from pipelines import explore
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
        ("--retriever_heads=3", "--retriever_...: 3 heads do not divide"),
        ("--finetune_method=half", "--finetune_...: method 'half' is not one of"),
        ("--base_model=./nowhere", "--base_model: the language model './nowhere' does not exist"),
        ("--dataset=movielens", "give either --dataset or --interactions and --items"),
    ],
)
def test_a_flag_of_a_late_stage_is_refused_at_once(
    arguments: list[str], flag: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explore.main([*arguments, flag]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_missing_inputs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explore.main([f"--workspace={tmp_path}"]) == 2
    assert "--interactions and --items are missing" in capsys.readouterr().err
