"""What the flags of mine_transitions decide."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.contract import check_label_distribution, check_transitions, read
from tests.pipelines import small


@pytest.fixture(scope="module")
def built(mined: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A workspace with clusters of two levels, and the log."""
    workspace = tmp_path_factory.mktemp("w")
    shutil.copytree(mined / "workspace" / "clusters", workspace / "clusters")
    return workspace, mined / "log.parquet"


def test_examples_are_as_many_and_in_the_form_that_the_flags_say(
    built: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    template = tmp_path / "template.txt"
    template.write_text("First {c1}, then {c2}:\n")
    flags = ("--examples_per_cluster=2", "--diversify=weighted", f"--prompt_template={template}")
    with caplog.at_level("INFO", "interest-explorer"):
        assert small.mine(*built, *flags) == 0
    assert small.manifest(built[0], "transitions")["level"] == 1  # the finest
    check_transitions(built[0], per_label=2)
    train = read(built[0] / "transitions" / "examples" / "train")
    assert [*Counter(row["novel"] for row in train).values()] == [2] * 6
    assert all(row["prompt"].startswith("First ") for row in train)
    assert all(row["prompt"].endswith(":\n") for row in train)

    check_label_distribution(built[0])
    paths = [file["path"] for file in small.manifest(built[0], "transitions")["files"]]
    assert "label_distribution.svg" in paths
    assert "-> 2.58 bits, 6 -> 6 of 6 clusters" in caplog.text  # log2(6)


def test_level_picks_the_clusters_and_none_diversifies_nothing(built: tuple[Path, Path]) -> None:
    assert small.mine(*built, "--level=0", "--diversify=none", "--examples_per_cluster=2") == 0
    assert small.manifest(built[0], "transitions")["level"] == 0
    counts = read(built[0] / "transitions" / "counts")
    assert {row["novel"] for row in counts} <= {0, 1, 2}
    train = read(built[0] / "transitions" / "examples" / "train")
    assert len(train) == 6
    assert max(Counter(row["novel"] for row in train).values()) > 2


def test_level_that_is_not_there_is_named(
    built: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.mine(*built, "--level=2") == 2
    assert "--level=2: the tree has the levels 0 (coarsest) to 1" in capsys.readouterr().err


@pytest.mark.parametrize("template", ["no such file", "{c1} alone", "{c2} before {c1}"])
def test_bad_prompt_template_is_refused_before_work(
    built: tuple[Path, Path], template: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        small.mine(*built, f"--prompt_template={template}")
    assert template in capsys.readouterr().err


def test_a_prompt_template_that_is_no_text_is_refused(
    built: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe{c1}")
    for path in (tmp_path, tmp_path / "binary"):
        with pytest.raises(SystemExit, match="2"):
            small.mine(*built, f"--prompt_template={path}")
        assert f"'{path}' is neither a text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        (("--valid_share=0",), "--valid_share=0: fine-tuning"),
        (("--valid_share=0.5", "--test_share=0.5"), "leave no user to train on"),
    ],
)
def test_shares_that_leave_nobody_are_refused_before_work(
    built: tuple[Path, Path], shares: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.mine(*built, *shares) == 2
    assert said in capsys.readouterr().err


def test_two_clusters_are_too_few_and_users_without_an_engagement_are_in_no_split(
    mined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, strict = mined / "log.parquet", ("--clusters=2,6", "--min_rating=5")
    assert small.build(tmp_path, mined / "items.parquet", log, *strict) == 0
    assert small.mine(tmp_path, log, "--level=0") == 2
    assert "--level=0 has 2 clusters" in capsys.readouterr().err
    assert small.mine(tmp_path, log, "--valid_share=0.3") == 0
    fans = {row["user_id"] for row in read(log) if row["rating"] == 5}
    assert {row["user_id"] for row in read(tmp_path / "transitions" / "splits")} == fans
