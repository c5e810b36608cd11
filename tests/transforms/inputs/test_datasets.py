"""Built-in datasets."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.inputs.datasets import write_dataset


def test_movielens_has_its_known_size(tmp_path: Path) -> None:
    interactions, items = write_dataset("movielens", str(tmp_path))
    assert pq.read_metadata(interactions).num_rows == 100_004
    assert pq.read_metadata(items).num_rows == 9_066


def test_a_written_dataset_is_left_as_it_is(tmp_path: Path) -> None:
    interactions, _ = write_dataset("movielens", str(tmp_path))
    before = Path(interactions).stat().st_mtime_ns
    write_dataset("movielens", str(tmp_path))
    assert Path(interactions).stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["interactions", "items"])
@pytest.mark.parametrize("rows", ["other", "none"])
def test_a_file_of_the_user_is_neither_overwritten_nor_taken_for_the_dataset(
    tmp_path: Path, name: str, rows: str
) -> None:
    mine = tmp_path / f"{name}.parquet"
    pq.write_table(pa.table({"item_id": ["a"]}), mine) if rows == "other" else mine.touch()
    before = mine.read_bytes()
    with pytest.raises(ValueError, match=f"{name}.parquet holds other rows than --dataset="):
        write_dataset("movielens", str(tmp_path))
    assert mine.read_bytes() == before
