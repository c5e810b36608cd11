"""A synthetic log of a platform: many users, a few very active ones, Zipf-distributed items."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common.output import say
from transforms import schemas as col

ITEMS = 200_000
CLUSTERS = 761
_USER_SPREAD = 1.0  # sigma of the log-normal activity of users
_HEAVY_SHARES = (0.05, 0.01, 0.01)  # of the interactions, one for each of the most active users
_ITEM_EXPONENT = 1.0
_FIRST, _DAYS = np.datetime64("2026-01-01", "us"), 90
_ROW_GROUP = 1 << 20


def write_items(path: Path, seed: int = 0) -> None:
    """Write ITEM_CLUSTERS of ITEMS items, in CLUSTERS clusters of one level."""
    rng = np.random.default_rng([seed, 1])
    clusters = rng.permutation(np.arange(ITEMS) % CLUSTERS).astype(np.int32)
    offsets = np.arange(ITEMS + 1, dtype=np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(clusters))
    table = pa.table([numbered_ids("i", np.arange(ITEMS)), lists], col.ITEM_CLUSTERS.names)
    pq.write_table(table, path)


def prepare_log(folder: Path, interactions: int, users: int) -> Path:
    """Return a log in a folder; write it unless it exists."""
    log = folder / f"log-{interactions}.parquet"
    if not log.exists():
        say(f"writing {log}")
        unfinished = log.with_suffix(".unfinished")
        write_log(unfinished, interactions, users)
        unfinished.rename(log)
    return log


def write_log(path: Path, interactions: int, users: int, seed: int = 0) -> None:
    """Write a log in order of time, with timestamps in microseconds."""
    rng = np.random.default_rng([seed, 2])
    of_user = _cumulative(_user_weights(users, rng))
    of_item = _cumulative(1.0 / np.arange(1, ITEMS + 1) ** _ITEM_EXPONENT)
    by_popularity = rng.permutation(ITEMS)
    step = np.timedelta64(_DAYS * 86_400_000_000 // interactions, "us")
    schema = pa.schema(
        {col.USER_ID: pa.string(), col.ITEM_ID: pa.string(), col.TIMESTAMP: col.TIME_TYPE}
    )
    user_ids = numbered_ids("u", np.arange(users))
    item_ids = numbered_ids("i", np.arange(ITEMS))
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, interactions, _ROW_GROUP):
            count = min(_ROW_GROUP, interactions - start)
            user = np.searchsorted(of_user, rng.random(count))
            item = by_popularity[np.searchsorted(of_item, rng.random(count))]
            times = pa.array(_FIRST + np.arange(start, start + count) * step).cast(col.TIME_TYPE)
            columns = [user_ids.take(pa.array(user)), item_ids.take(pa.array(item)), times]
            writer.write_table(pa.table(columns, schema=schema))


def numbered_ids(prefix: str, numbers: np.ndarray) -> pa.Array:
    """Return ids such as i00000042."""
    return pa.array([f"{prefix}{number:08d}" for number in numbers.tolist()], pa.string())


def _user_weights(users: int, rng: np.random.Generator) -> np.ndarray:
    weights = rng.lognormal(0, _USER_SPREAD, users)
    rest = weights.sum() / (1 - sum(_HEAVY_SHARES))
    weights[rng.choice(users, len(_HEAVY_SHARES), replace=False)] = rest * np.array(_HEAVY_SHARES)
    return weights


def _cumulative(weights: np.ndarray) -> np.ndarray:
    total = np.cumsum(weights)
    return total / total[-1]
