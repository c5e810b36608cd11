"""A checkpoint is used if all its files are as they were written."""

from pathlib import Path

import pytest

from models.common.checkpoints import whole_checkpoints, write_checkpoint


def save(content: str):
    def write(path: Path) -> None:
        (path / "sub").mkdir()
        (path / "sub" / "state").write_text(content)

    return write


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for number in range(12):
        write_checkpoint(tmp_path, save(str(number)))
    kept = whole_checkpoints(tmp_path)
    assert [(kept[11] / "sub/state").read_text(), (kept[12] / "sub/state").read_text()] == [
        "10",
        "11",
    ]
    assert kept.keys() == {11, 12}


@pytest.mark.parametrize("damage", ["missing", "altered", "empty", "stray", "unsealed", "no JSON"])
def test_a_damaged_one_is_deleted_with_a_warning(tmp_path: Path, caplog, damage: str) -> None:
    for content in ("one", "two"):
        write_checkpoint(tmp_path, save(content))
    last = tmp_path / "checkpoint-2"
    state, sums = last / "sub" / "state", last / "checksums.json"
    {
        "missing": state.unlink,
        "altered": lambda: state.write_text("twO"),
        "empty": lambda: state.write_text(""),
        "stray": lambda: (last / "more").write_text(""),
        "unsealed": sums.unlink,
        "no JSON": lambda: sums.write_text("{"),
    }[damage]()
    assert whole_checkpoints(tmp_path).keys() == {1}
    assert caplog.messages == [f"{last} is unfinished or damaged, and is not used"]
    assert not last.exists()


def test_a_writer_that_is_killed_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    def die(path: Path) -> None:
        (path / "state").write_text("half")
        raise KeyboardInterrupt

    write_checkpoint(tmp_path, save("one"))
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, die)
    assert whole_checkpoints(tmp_path).keys() == {1}
    write_checkpoint(tmp_path, save("two"))
    assert whole_checkpoints(tmp_path).keys() == {1, 2}


def test_other_names_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint").write_text("")
    (tmp_path / "checkpoint-7").symlink_to(tmp_path)
    assert whole_checkpoints(tmp_path) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "checkpoint-x"]
