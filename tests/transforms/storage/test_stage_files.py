"""A stage is what its manifest lists."""

from pathlib import Path

import pyarrow as pa
import pytest

from transforms.errors import InputError
from transforms.storage import files, stage_files
from transforms.storage.manifest import RowCounts, StagePlan, read_manifest, write_manifest

SCHEMA = pa.schema({"id": pa.int32()})
PLAN = StagePlan("make_tea", {}, {}, None, 1)


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A complete stage with two parts of a table."""
    stage = str(tmp_path / "stage")
    if request.param == "remote":
        stage = f"gs://{request.getfixturevalue('storage').bucket}/{tmp_path.name}"
    records = [
        files.write_parquet(stage, f"ids/{name}.parquet", pa.table({"id": ids, "more": ids}))
        for name, ids in (("b", [3]), ("a", [1, 2]))
    ]
    write_manifest(stage, PLAN, {}, 0.0, RowCounts(files=tuple(records)))
    return stage


def ids(folder: str) -> list[int]:
    return stage_files.read_parts(folder, "ids", SCHEMA)["id"].to_pylist()


def test_parts_are_read_in_order_and_cast(folder: str) -> None:
    table = stage_files.read_parts(folder, "ids", SCHEMA)
    assert table.equals(pa.table({"id": [1, 2, 3]}, schema=SCHEMA))
    assert stage_files.read_parts(folder, "", SCHEMA) == table


def test_no_parts_are_an_empty_table(folder: str) -> None:
    assert stage_files.read_parts(folder, "id", SCHEMA) == SCHEMA.empty_table()


def test_a_part_that_the_manifest_does_not_list_is_not_read(folder: str) -> None:
    files.write_parquet(folder, "ids/c.parquet", pa.table({"id": [4]}))
    assert ids(folder) == [1, 2, 3]


def test_a_part_of_other_rows_is_not_read(folder: str) -> None:
    files.write_parquet(folder, "ids/a.parquet", pa.table({"id": [1, 9], "more": [1, 2]}))
    with pytest.raises(InputError, match=r"ids/a\.parquet was altered while it was in use; rerun"):
        ids(folder)


def test_a_stage_without_a_manifest_is_not_read(folder: str) -> None:
    files.delete_file(files.join(folder, "manifest.json"))
    with pytest.raises(InputError, match="is not complete; rerun the pipeline that writes it"):
        ids(folder)


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("ids/c.parquet", True),
        ("ids/a.parquet.bak", True),
        ("model.safetensors", True),
        ("ids/.c.parquet.swp", False),
        ("README.md", False),
        ("a.parquet.unfinished-" + "0" * 32, False),
    ],
)
def test_data_that_the_manifest_does_not_list_is_refused_by_name(
    folder: str, name: str, refused: bool
) -> None:
    manifest = read_manifest(folder)
    assert manifest is not None
    stage_files.refuse_unlisted(folder, manifest)
    files.write_bytes(files.join(folder, name), b"")
    if not refused:
        return stage_files.refuse_unlisted(folder, manifest)
    with pytest.raises(InputError, match="is not a file that the pipeline wrote; move it") as error:
        stage_files.refuse_unlisted(folder, manifest)
    assert f"{folder}/{name} " in str(error.value)


def test_patterns_match_whole_names_in_their_folder() -> None:
    shard = "part-00001-of-00002.parquet"
    names = [shard, f"counts/{shard}", "counts/part-x.parquet", "counts/a/" + shard, "m-1.bin"]
    assert stage_files.matching(names, ("counts/part-*.parquet",)) == {f"counts/{shard}"}
    assert stage_files.matching(names, ("m-*.bin", "m.bin")) == {"m-1.bin"}
    assert stage_files.matching(names, ()) == set()


def test_deleting_leaves_other_files_and_no_empty_folder(folder: str) -> None:
    files.write_bytes(files.join(folder, "mine"), b"")
    stage_files.delete(folder, ["ids/a.parquet", "ids/b.parquet", "gone"])
    assert stage_files.names_in(folder) == ["mine"]
    assert not Path(folder, "ids").exists()


def test_nothing_outside_is_deleted(folder: str) -> None:
    with pytest.raises(InputError, match="not below it"):
        stage_files.delete(folder, ["../other"])
