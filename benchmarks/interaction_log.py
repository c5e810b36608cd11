"""A synthetic log of interactions as a platform has it: many users, few heavy ones, Zipf items."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms import schemas as col

ITEMS = 200_000
CLUSTERS = 761
_USER_SPREAD = 1.0  # sigma of the log-normal activity of users
_HEAVY_SHARES = (0.05, 0.01, 0.01)  # of the interactions, of the heaviest users
_ITEM_EXPONENT = 1.0
_FIRST, _DAYS = np.datetime64("2026-01-01", "us"), 90
_CHUNK = 1 << 20  # rows of a row group


def write_items(path: Path, seed: int = 0) -> None:
    """Write ITEM_CLUSTERS of ITEMS items, in CLUSTERS clusters of one level."""
    rng = np.random.default_rng([seed, 1])
    clusters = rng.permutation(np.arange(ITEMS) % CLUSTERS).astype(np.int32)
    offsets = np.arange(ITEMS + 1, dtype=np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(clusters))
    pq.write_table(pa.table([_names("i", np.arange(ITEMS)), lists], col.ITEM_CLUSTERS.names), path)


def write_log(path: Path, interactions: int, users: int, seed: int = 0) -> None:
    """Write a log in order of time, chunk by chunk.

    Parameters
    ----------
    path
        Of a Parquet file with user_id, item_id and timestamp (microseconds).
    interactions, users
        How many. A few users have a hundredth of all interactions and more.
    """
    rng = np.random.default_rng([seed, 2])
    of_user = _cumulative(_user_weights(users, rng))
    of_item = _cumulative(1.0 / np.arange(1, ITEMS + 1) ** _ITEM_EXPONENT)
    by_popularity = rng.permutation(ITEMS)
    step = np.timedelta64(_DAYS * 86_400_000_000 // interactions, "us")
    schema = pa.schema(
        {col.USER_ID: pa.string(), col.ITEM_ID: pa.string(), col.TIMESTAMP: col.TIME_TYPE}
    )
    user_names, item_names = _names("u", np.arange(users)), _names("i", np.arange(ITEMS))
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, interactions, _CHUNK):
            count = min(_CHUNK, interactions - start)
            user = np.searchsorted(of_user, rng.random(count))
            item = by_popularity[np.searchsorted(of_item, rng.random(count))]
            times = _FIRST + np.arange(start, start + count) * step
            writer.write_table(
                pa.table(
                    [
                        user_names.take(pa.array(user)),
                        item_names.take(pa.array(item)),
                        pa.array(times).cast(col.TIME_TYPE),
                    ],
                    schema=schema,
                )
            )


def _user_weights(users: int, rng: np.random.Generator) -> np.ndarray:
    weights = rng.lognormal(0, _USER_SPREAD, users)
    rest = weights.sum() / (1 - sum(_HEAVY_SHARES))
    weights[rng.choice(users, len(_HEAVY_SHARES), replace=False)] = rest * np.array(_HEAVY_SHARES)
    return weights


def _cumulative(weights: np.ndarray) -> np.ndarray:
    total = np.cumsum(weights)
    return total / total[-1]


def _names(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pa.array([f"{prefix}{number:08d}" for number in numbers.tolist()], pa.string())
