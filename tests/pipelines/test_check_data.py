"""check_data on a small log: what it says, and how it ends."""

from pathlib import Path

import pytest

from pipelines.check_data import main
from tests.pipelines import small


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    items = small.write(tmp_path / "items.parquet", small.items())
    broken = [{**small.interactions()[0], "item_id": "nowhere"}]
    log = small.write(tmp_path / "log.parquet", small.interactions() + broken)
    return [f"--items={items}", f"--interactions={log}"]


def test_a_log_that_is_too_small_is_described_and_refused(
    inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(inputs) == 2
    said = capsys.readouterr()
    read = len(small.interactions()) + 1
    assert f"interactions: {read:,} rows, {read - 1:,} of them" in said.out
    assert "dropped: 1 x the item is not among the items that have a cluster" in said.out
    assert "item_id=nowhere" in said.out
    assert f"users: {small.USERS};" in said.out
    assert said.err.startswith("error: the log is too small for 12 clusters")


def test_items_that_occur_twice_are_counted(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = small.write(tmp_path / "twice.parquet", small.items() + small.items()[:3])
    assert main([f"--items={twice}", *inputs[1:], "--project", "some-project"]) == 2
    assert "dropped: 3 x item_id occurs more than once" in capsys.readouterr().out


def test_a_log_without_a_usable_row_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = small.write(tmp_path / "items.parquet", small.items())
    rows = [{**row, "item_id": "nowhere"} for row in small.interactions()]
    log = small.write(tmp_path / "log.parquet", rows)
    assert main([f"--items={items}", f"--interactions={log}"]) == 2
    said = capsys.readouterr()
    assert f"dropped: {len(rows):,} x the item is not among the items" in said.out
    assert said.err == "error: no interaction can be used; the lines above say why\n"


def test_clusters_are_named_for_a_log_that_supports_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--dataset=movielens"]) == 0
    said = capsys.readouterr().out
    assert "interactions: 100,004 rows, 100,002 of them" in said
    assert said.splitlines()[-1].startswith("give pipelines.explore --clusters=")


def test_runners_and_missing_inputs_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runner=DataflowRunner"]) == 2
    assert "--runner=DataflowRunner: check_data runs on this machine" in capsys.readouterr().err
    assert main([]) == 2
    assert "--interactions and --items are missing" in capsys.readouterr().err
