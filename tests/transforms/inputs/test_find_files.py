"""Which files a flag names: all of a folder, or an error with the name of what cannot be read."""

import os
from pathlib import Path

import pytest

from transforms.errors import InputError
from transforms.inputs.find_files import find_files, partition_columns
from transforms.storage import files


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    return f"gs://{request.getfixturevalue('storage').bucket}/{tmp_path.name}"


def fill(folder: str, *names: str, content: bytes = b"x") -> str:
    for name in names:
        files.write_bytes(files.join(folder, name), content)
    return folder


def found(folder: str, pattern: str = "") -> list[str]:
    paths = find_files(f"{folder}/{pattern}".rstrip("/"), "items")
    return [path.removeprefix(f"{folder}/") for path in paths]


@pytest.mark.parametrize(
    "names",
    [
        ["1.parquet", "2.csv", "3.csv.gz", "4.tsv", "5.CSV", "6.jsonl.zst", "part-00000"],
        ["a.csv", "below/b.csv", "below/further/c.csv"],
        ["_dt=2026-01-01/a.csv", "dt=2026-01-01/a.csv", "part.csv"],
        ["a.csv", "sub.parquet/part-0.parquet"],
    ],
)
def test_a_folder_is_read_whole(folder: str, names: list[str]) -> None:
    assert found(fill(folder, *names)) == sorted(names)


HIDDEN = ("_SUCCESS", ".hidden.parquet", "_draft.parquet", ".a.crc", "_tmp/a.csv", ".x/a.csv")


def test_hidden_files_are_no_data(folder: str) -> None:
    fill(folder, "a.csv", *HIDDEN)
    assert found(folder) == ["a.csv"]
    assert found(folder, "*") == ["a.csv"]
    assert found(folder, "_draft.parquet") == ["_draft.parquet"]  # by its name it is wanted


def test_files_without_a_byte_are_left_out_of_a_folder(folder: str) -> None:
    fill(fill(folder, "a.csv"), "b.csv", content=b"")
    assert found(folder) == ["a.csv"]
    assert found(folder, "b.csv") == ["b.csv"]


def test_a_pattern_finds_files_and_folders(folder: str) -> None:
    fill(folder, "1.parquet", "2.parquet/part-0", "3.csv", "deep/4.parquet")
    assert found(folder, "*.parquet") == ["1.parquet", "2.parquet/part-0"]
    assert found(folder, "d*/*.parquet") == ["deep/4.parquet"]


def test_brackets_in_a_name_are_no_pattern(folder: str) -> None:
    assert found(fill(f"{folder}/log [2026]", "a.csv")) == ["a.csv"]


def test_a_delta_table_is_refused(folder: str) -> None:
    fill(folder, "a.csv", "table/_delta_log/0.json", "table/b.parquet")
    with pytest.raises(InputError, match=f"--items={folder}: {folder}/table is a Delta table"):
        found(folder)


def test_a_linked_folder_is_read(tmp_path: Path) -> None:
    fill(f"{tmp_path}/elsewhere", "b.csv")
    folder = fill(f"{tmp_path}/log", "a.csv")
    Path(folder, "more").symlink_to(tmp_path / "elsewhere")
    assert found(folder) == ["a.csv", "more/b.csv"]


def link_to_nothing(folder: Path) -> None:
    (folder / "bad").symlink_to(folder / "nothing")


def link_to_itself(folder: Path) -> None:
    (folder / "bad").symlink_to(folder)


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "bad")


@pytest.mark.parametrize("spoil", [link_to_nothing, link_to_itself, pipe])
def test_what_cannot_be_read_is_named(tmp_path: Path, spoil) -> None:
    fill(str(tmp_path), "a.csv")
    spoil(tmp_path)
    with pytest.raises(InputError, match=f"--items={tmp_path}: {tmp_path}/bad is (a|no) "):
        found(str(tmp_path))


@pytest.mark.parametrize("missing", ["nothing.csv", "*.orc", "nothing/", ""])
def test_an_input_that_is_not_there_is_named(folder: str, missing: str) -> None:
    with pytest.raises(InputError, match="no such file; give a file, a folder") as error:
        find_files(f"{folder}/empty/{missing}", "items")
    assert f"--items={folder}/empty/{missing}: no such" in str(error.value)


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
