"""Which files a flag names: all of a folder, or an error with the name of what cannot be read."""

import os
from pathlib import Path

import pytest

from transforms.errors import InputError
from transforms.inputs.find_files import _matches, find_files, partition_columns


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def found(folder: Path, pattern: str = "") -> list[str]:
    paths = find_files(f"{folder}/{pattern}".rstrip("/"), "items")
    return [str(Path(path).relative_to(folder)) for path in paths]


@pytest.mark.parametrize(
    "names",
    [
        ["1.parquet", "2.csv", "3.csv.gz", "4.tsv", "5.CSV", "6.jsonl.zst", "part-00000"],
        ["a.csv", "below/b.csv", "below/further/c.csv"],
        ["dt=2026-01-01/a.csv", "part.csv"],
        ["_dt=2026-01-01/a.csv"],
        ["a.csv", "sub.parquet/part-0.parquet"],
    ],
)
def test_a_folder_is_read_whole(tmp_path: Path, names: list[str]) -> None:
    assert found(fill(tmp_path, *names)) == sorted(names)


@pytest.mark.parametrize(
    "name", ["_SUCCESS", ".hidden.parquet", "_draft.parquet", ".a.crc", "_tmp/a.csv", ".x/a.csv"]
)
def test_hidden_files_are_no_data(tmp_path: Path, name: str) -> None:
    assert found(fill(tmp_path, "a.csv", name)) == ["a.csv"]
    assert found(tmp_path, "*") == ["a.csv"]


def test_files_without_a_byte_are_left_out_of_a_folder(tmp_path: Path) -> None:
    fill(tmp_path, "a.csv")
    (tmp_path / "b.csv").touch()
    assert found(tmp_path) == ["a.csv"]
    assert found(tmp_path, "b.csv") == ["b.csv"]


def test_a_pattern_finds_files_and_folders(tmp_path: Path) -> None:
    fill(tmp_path, "1.parquet", "2.parquet/part-0", "3.csv", "deep/4.parquet")
    assert found(tmp_path, "*.parquet") == ["1.parquet", "2.parquet/part-0"]
    assert found(tmp_path, "**/*.parquet") == ["1.parquet", "2.parquet/part-0", "deep/4.parquet"]


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path) -> None:
    assert found(fill(tmp_path / "log [2026]", "a.csv")) == ["a.csv"]


def test_a_linked_folder_is_read(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "b.csv")
    folder = fill(tmp_path / "log", "a.csv")
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    assert found(folder) == ["a.csv", "more/b.csv"]


def link_to_nothing(folder: Path) -> None:
    (folder / "bad").symlink_to(folder / "nothing")


def link_to_itself(folder: Path) -> None:
    (folder / "bad").symlink_to(folder)


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "bad")


def delta_table(folder: Path) -> None:
    fill(folder / "bad", "_delta_log/0.json")


@pytest.mark.parametrize("spoil", [link_to_nothing, link_to_itself, pipe, delta_table])
def test_what_cannot_be_read_is_named(tmp_path: Path, spoil) -> None:
    spoil(fill(tmp_path, "a.csv"))
    with pytest.raises(InputError, match=f"--items={tmp_path}: {tmp_path}/bad is (a|no) "):
        found(tmp_path)


@pytest.mark.parametrize("missing", ["nothing.csv", "*.orc", "folder"])
def test_an_input_that_is_not_there_is_named(tmp_path: Path, missing: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="no such file; give a file, a folder") as error:
        found(tmp_path, missing)
    assert f"--items={tmp_path}/{missing}" in str(error.value)


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("log/dt=2026-01-31/country=DE/a.csv", {"dt": "2026-01-31", "country": "DE"}),
        ("log/city=S%C3%A3o%20Paulo/a.csv", {"city": "São Paulo"}),
        ("log/dt=__HIVE_DEFAULT_PARTITION__/a.csv", {"dt": None}),
        ("log/dt=2026.csv", {}),
    ],
)
def test_hive_folders_are_columns(path: str, columns: dict) -> None:
    assert partition_columns(path) == columns


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("gs://b/log/a.csv", True),
        ("gs://b/log/a.csv/part-0", True),
        ("gs://b/log/deep/a.csv", False),
        ("gs://b/a.csv", False),
    ],
)
def test_a_pattern_at_gs_matches_files_and_folders(path: str, expected: bool) -> None:
    assert _matches(path, "gs://b/log/*.csv") == expected
