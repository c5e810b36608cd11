"""A catalogue, users and settings so small that training takes seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.retrieval.item_catalogue import Catalogue
from models.retrieval.training.sequence_shards import SHARD, cut_into_groups, shard_schema

ITEMS = 40
SMALL: dict[str, Any] = {
    "dimension": 16,
    "layers": 1,
    "max_length": 8,
    "batch_size": 8,
    "negatives": 32,
    "epochs": 3,
}


def ring(users: int = 60, length: int = 9, seed: int = 0) -> list[np.ndarray]:
    """Users who walk a ring of items one by one, so that the next item is certain."""
    starts = np.random.default_rng(seed).integers(ITEMS, size=users)
    return [((start + np.arange(length)) % ITEMS).astype(np.int32) for start in starts]


def catalogue(items: int = ITEMS) -> Catalogue:
    ids = np.array([f"item {index}" for index in range(items)])
    return Catalogue(ids, (np.arange(items) % 4).astype(np.int32), np.ones(items, bool))


def write_shards(
    folder: Path,
    sequences: Sequence[np.ndarray],
    keys: Sequence[int] | None = None,
    shards: int = 3,
    group_items: int = 50,
    items: Catalogue | None = None,
) -> list[str]:
    """Write users in turn to shards and return their paths; keys are drawn unless given.

    A user begins an hour after the one before, and takes an item every minute.
    """
    keys = np.random.default_rng(9).permutation(len(sequences)) if keys is None else keys
    minutes = [60 * user + np.arange(len(items)) for user, items in enumerate(sequences)]
    rows = pa.table(
        [
            pa.array(keys, pa.int64()),
            pa.array(list(map(list, sequences)), pa.list_(pa.int32())),
            pa.array([list(60_000_000 * times) for times in minutes], pa.list_(pa.int64())),
        ],
        schema=SHARD,
    )
    schema = shard_schema((items or catalogue()).vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(folder / f"{shard}.parquet") for shard in range(shards)]
    for shard, path in enumerate(paths):
        with pq.ParquetWriter(path, schema) as writer:
            own = rows.take(pa.array(np.arange(shard, len(rows), shards)))
            for group in cut_into_groups(own, group_items):
                writer.write_table(group)
    return paths
