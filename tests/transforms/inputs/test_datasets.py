"""Built-in datasets."""

from pathlib import Path

import pyarrow.parquet as pq

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
