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


def test_finest_level_is_the_default(built: tuple[Path, Path]) -> None:
    assert small.mine(*built) == 0
    assert small.manifest(built[0], "transitions")["level"] == 1


def test_level_picks_the_clusters(built: tuple[Path, Path]) -> None:
    assert small.mine(*built, "--level=0") == 0
    assert small.manifest(built[0], "transitions")["level"] == 0
    counts = read(built[0] / "transitions" / "counts")
    assert {row["novel"] for row in counts} <= {0, 1, 2}


def test_level_that_is_not_there_is_named(
    built: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.mine(*built, "--level=2") == 2
    assert "--level=2: the tree has the levels 0 (coarsest) to 1" in capsys.readouterr().err


def test_level_with_fewer_than_three_clusters_is_refused(
    built: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items, log = small.write(tmp_path / "items.parquet", small.items()), built[1]
    assert small.build(tmp_path / "w", items, log, "--clusters=2,6") == 0
    assert small.mine(tmp_path / "w", log, "--level=0") == 2
    assert "--level=0 has 2 clusters" in capsys.readouterr().err


def test_per_label_caps_the_training_examples(built: tuple[Path, Path]) -> None:
    assert small.mine(*built, "--examples_per_cluster=2") == 0
    train = read(built[0] / "transitions" / "examples" / "train")
    assert set(Counter(row["novel"] for row in train).values()) == {2}


def test_the_labels_are_measured_and_drawn(
    built: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "interest-explorer"):
        assert small.mine(*built, "--examples_per_cluster=3") == 0
    check_transitions(built[0], per_label=3)
    check_label_distribution(built[0])
    paths = [file["path"] for file in small.manifest(built[0], "transitions")["files"]]
    assert "label_distribution.svg" in paths
    assert "-> 2.58 bits, 6 -> 6 of 6 clusters" in caplog.text  # log2(6)


def test_strategy_decides_which_are_trained_on(built: tuple[Path, Path]) -> None:
    labels: dict[str, Counter] = {}
    for strategy in ("uniform", "weighted", "none"):
        assert small.mine(*built, "--examples_per_cluster=2", f"--diversify={strategy}") == 0
        train = read(built[0] / "transitions" / "examples" / "train")
        assert len(train) == 12
        labels[strategy] = Counter(row["novel"] for row in train)
    assert set(labels["weighted"].values()) == {2}
    assert max(labels["none"].values()) > 2


def test_prompt_template_is_used(built: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "template.txt"
    file.write_text("First {c1}, then {c2}:\n")
    assert small.mine(*built, f"--prompt_template={file}") == 0
    prompts = [row["prompt"] for row in read(built[0] / "transitions" / "examples" / "train")]
    assert all(prompt.startswith("First ") and prompt.endswith(":\n") for prompt in prompts)


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


def test_users_without_a_positive_rating_are_in_no_split(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    workspace, log = tmp_path / "w", built[1]
    items = small.write(tmp_path / "items.parquet", small.items())
    assert small.build(workspace, items, log, "--min_rating=5") == 0
    assert small.mine(workspace, log, "--valid_share=0.3") == 0
    fans = {row["user_id"] for row in read(log) if row["rating"] == 5}
    assert {row["user_id"] for row in read(workspace / "transitions" / "splits")} == fans
