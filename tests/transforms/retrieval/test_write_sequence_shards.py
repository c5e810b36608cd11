"""Shards for the training: what they hold, and that they are the same whenever written."""

import hashlib
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.retrieval.item_catalogue import vocabulary
from models.retrieval.training.sequence_shards import row_groups
from tests.transforms.eager import run
from transforms import schemas as col
from transforms.retrieval import write_sequence_shards
from transforms.retrieval.write_sequence_shards import WriteSequenceShards, shard_rows
from transforms.tables.sharding import stable_hash
from transforms.tables.shuffle import PARTS

ITEM_CLUSTERS = (pa.array(["a", "b", "c"]), np.array([0, 1, 1], np.int32))


def sequences(users: dict[str, list[int]]) -> pa.Table:
    rows = [
        {col.USER_ID: user, col.TIMESTAMPS: list(range(len(items))), col.ITEMS_OF_USER: items}
        for user, items in users.items()
    ]
    return pa.Table.from_pylist(rows, schema=col.SEQUENCES)


PARTS_OF_LOG = [
    (0, sequences({"u": [0, 1, 2], "v": [2]})),
    (1, sequences({})),
    (63, sequences({"w": [1, 1]})),
]


def write(folder: Path, parts: list[tuple[int, pa.Table]], seed: int = 0) -> list[str]:
    def build(pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        item_clusters = pipeline | "ItemClusters" >> beam.Create([ITEM_CLUSTERS])
        created = pipeline | beam.Create(parts).with_output_types(tuple[int, pa.Table])
        return {"paths": created | WriteSequenceShards(str(folder), seed, item_clusters)}

    return sorted(run(build)["paths"])


def test_a_part_is_a_shard_of_the_catalogue(tmp_path: Path) -> None:
    paths = write(tmp_path, PARTS_OF_LOG)
    assert [Path(path).name for path in paths] == [
        f"part-{part:05d}-of-{PARTS:05d}.parquet" for part in (0, 1, 63)
    ]
    assert [pq.read_table(path)["items"].to_pylist() for path in paths] == [
        [[0, 1, 2], [2]],
        [],
        [[1, 1]],
    ]
    assert [group.items for group in row_groups(paths, vocabulary(*ITEM_CLUSTERS))] == [4, 2]


def test_shards_written_again_have_the_same_bytes(tmp_path: Path) -> None:
    digests = [
        [hashlib.sha256(Path(path).read_bytes()).digest() for path in write(folder, parts)]
        for folder, parts in (
            (tmp_path / "one", PARTS_OF_LOG),
            (tmp_path / "other", PARTS_OF_LOG[::-1]),
            (tmp_path / "one", PARTS_OF_LOG),
        )
    ]
    assert digests[0] == digests[1] == digests[2]


def test_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        write_sequence_shards,
        "cut_into_groups",
        lambda rows, cut=write_sequence_shards.cut_into_groups: cut(rows, 4),
    )
    users = {f"user {number}": [0, 1, 2] for number in range(10)}
    [path] = write(tmp_path, [(0, sequences(users))])
    groups = row_groups([path], vocabulary(*ITEM_CLUSTERS))
    assert sum(group.items for group in groups) == 30
    assert max(group.items for group in groups) < 4 + 3


def test_a_user_is_a_hash_of_seed_and_id() -> None:
    log = sequences({"u": [0], "v": [1]})
    one, other = (shard_rows(log, seed)["key"].to_pylist() for seed in (0, 1))
    assert len({*one, *other}) == 4
    assert min(one + other) >= 0
    assert one == [int(key) >> 1 for key in stable_hash(log[col.USER_ID], 0)]
