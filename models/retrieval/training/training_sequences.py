"""Makes batches for training and validation of the retriever from shards of sequences."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.retrieval.popularity import (
    Part,
    Popularity,
    decayed_popularity,
    snapshot_moments,
    snapshots_of,
)
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.training.sequence_shards import ITEMS, KEY, TIMES, RowGroup

WINDOW_ITEMS = 1 << 21
_SAMPLED_TIMES = 1 << 10  # of a row group, for the moments of the popularity
_NO_LIMIT = np.iinfo(np.int64).max

COLUMNS = ("items", "targets", "users", "recency", "snapshots")
Batch = NDArray[np.int32]  # [COLUMNS, batch_size, max_length]


@dataclass(frozen=True)
class Survey:
    """The result of one pass over all sequences."""

    users: int
    counts: NDArray[np.int64]  # [items] engagements with each item, without the held-out ones
    transitions: int  # from an item to the next, in an epoch
    limit: int  # users with a smaller key are validation users, if `_last_is_new`
    histories: list[NDArray[np.int32]]  # of the validation users, without the last item
    held_out: NDArray[np.int32]  # [validation users], their last items
    held_out_at: NDArray[np.int64]  # [validation users], when these were, in microseconds
    moments: NDArray[np.int64]  # of the snapshots of the popularity
    digest: str  # of all sequences in their order

    def steps(self, config: RetrieverConfig) -> int:
        """Return the number of batches in an epoch."""
        return -(-self.transitions // (config.batch_size * config.max_length))


def survey(groups: Sequence[RowGroup], items: int, validation_users: int) -> Survey:
    """Count the items, and choose the users whose last item is held out for validation.

    The validation users are the `validation_users` with the smallest keys among those with at least
    three items and a last item that is new to them: an item of the history is never recommended, so
    the other users could only be misses. The choice does not depend on the order of the rows. One
    row group is in memory at a time.

    Raises ValueError if an index is outside the catalogue of `items` items.
    """
    counts = np.zeros(items, np.int64)
    users = transitions = 0
    digest = hashlib.sha256()
    limit, chosen = _NO_LIMIT, list[tuple[int, NDArray[np.int32], int]]()
    sampled_times = [np.empty(0, np.int64)]
    for group in groups:
        keys, flat, times, lengths = _columns(group.read())
        if len(flat) and not 0 <= np.min(flat) <= np.max(flat) < items:
            raise ValueError(
                f"item indices {np.min(flat)} to {np.max(flat)} in the sequences: "
                f"the catalogue has indices 0 to {items - 1}"
            )
        counts += np.bincount(flat, minlength=items)
        users += len(keys)
        transitions += len(flat) - len(keys)
        for array in (keys, lengths, flat, times):
            digest.update(array.tobytes())
        sampled_times.append(np.sort(times)[:: max(1, len(times) // _SAMPLED_TIMES)])
        ends = np.cumsum(lengths)
        rows = np.flatnonzero(_last_is_new(flat, lengths) & (keys < limit))
        rows = rows[np.argsort(keys[rows], kind="stable")]
        chosen += [
            (int(keys[i]), flat[ends[i] - lengths[i] : ends[i]].copy(), int(times[ends[i] - 1]))
            for i in rows[: validation_users + 1]
        ]
        chosen.sort(key=lambda one: one[0])
        # One more is kept as the limit: equal keys are on the same side of it in any order.
        del chosen[validation_users + 1 :]
        if len(chosen) > validation_users:
            limit = chosen[-1][0]
    chosen = [one for one in chosen if one[0] < limit]
    held_out = np.array([sequence[-1] for _, sequence, _ in chosen], np.int32)
    return Survey(
        users,
        counts - np.bincount(held_out, minlength=items),
        transitions - len(held_out),
        limit,
        [sequence[:-1] for _, sequence, _ in chosen],
        held_out,
        np.array([time for *_, time in chosen], np.int64),
        snapshot_moments(np.concatenate(sampled_times), snapshots_of(items)),
        digest.hexdigest(),
    )


def popularity(groups: Sequence[RowGroup], items: int, found: Survey) -> Popularity:
    """Return the popularity of items by all engagements that are not held out."""

    def parts() -> Iterator[Part]:
        for group in groups:
            keys, flat, times, lengths = _columns(group.read())
            kept = np.ones(len(flat), bool)
            ends = np.cumsum(lengths)
            kept[ends[_last_is_new(flat, lengths) & (keys < found.limit)] - 1] = False
            yield flat[kept], times[kept]

    return decayed_popularity(parts(), items, found.moments)


def batches(
    groups: Sequence[RowGroup],
    found: Survey,
    config: RetrieverConfig,
    epoch: int,
    window_items: int = WINDOW_ITEMS,
) -> Iterator[Batch]:
    """Yield the batches of an epoch (from 0), a function of the seed and the epoch.

    The row groups come in a shuffled order, and the users of a window of `window_items` items (or
    of one larger row group) are shuffled. All sequences are joined and cut into rows of
    `max_length`: no position is padding even if histories are short, and long ones are cut
    elsewhere in each epoch. Attention stays within a user; items before a cut are not seen.

    A batch has the COLUMNS. User -1 is padding, which fills up the last batch. `recency` counts the
    transitions of the user that follow, across cuts, up to `max_length` - 1; `snapshots` are the
    latest of the popularity before the target. Held-out items (`Survey.limit`) are left out.
    """
    rng = np.random.default_rng([config.seed, epoch])
    order = [groups[index] for index in rng.permutation(len(groups))]
    size = config.batch_size * config.max_length
    shape = (len(COLUMNS), config.batch_size, config.max_length)
    rest = np.zeros((len(COLUMNS), 0), np.int32)
    users = 0
    for window in windows(order, window_items):
        count, columns = _shuffled_transitions(window, found, config.max_length, rng)
        columns[COLUMNS.index("users")] += users
        users += count
        rest = np.concatenate([rest, columns], axis=1)
        whole = rest.shape[1] // size * size
        for start in range(0, whole, size):
            yield rest[:, start : start + size].reshape(shape)
        rest = rest[:, whole:].copy()
    if missing := -rest.shape[1] % size:
        padding = np.zeros((len(COLUMNS), missing), np.int32)
        padding[COLUMNS.index("users")] = -1
        yield np.concatenate([rest, padding], axis=1).reshape(shape)


def windows(groups: Sequence[RowGroup], most: int) -> Iterator[list[RowGroup]]:
    """Cut row groups, in their order, into windows of at most `most` items, or of one group."""
    window: list[RowGroup] = []
    for group in groups:
        if window and sum(other.items for other in window) + group.items > most:
            yield window
            window = []
        window.append(group)
    if window:
        yield window


def _columns(
    rows: pa.Table,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return the keys [users], items and times of all users joined, and their numbers [users]."""
    lengths = pc.list_value_length(rows[ITEMS]).to_numpy().astype(np.int64)
    items, times = (pc.list_flatten(rows[name]).to_numpy() for name in (ITEMS, TIMES))
    return rows[KEY].to_numpy(), items, times, lengths


def _last_is_new(flat: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which users [users] have at least three items and the last one only once."""
    last = flat[np.cumsum(lengths) - 1]
    user = np.repeat(np.arange(len(lengths)), lengths)
    times = np.bincount(user[flat == last[user]], minlength=len(lengths))
    return (lengths >= 3) & (times == 1)


def _shuffled_transitions(
    window: Sequence[RowGroup], found: Survey, most: int, rng: np.random.Generator
) -> tuple[int, NDArray[np.int32]]:
    """Return the number of users, and their transitions [COLUMNS, transitions]."""
    rows = pa.concat_tables(group.read() for group in window)
    keys, flat, times, lengths = _columns(rows.take(pa.array(rng.permutation(rows.num_rows))))
    last = lengths - 1 - (_last_is_new(flat, lengths) & (keys < found.limit))  # of the last target
    user = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    position = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    source = np.flatnonzero(position < last[user])
    recency = np.minimum(last[user] - 1 - position, most - 1)[source]
    snapshots = np.maximum(np.searchsorted(found.moments, times[source + 1], side="right") - 1, 0)
    columns = flat[source], flat[source + 1], user[source], recency, snapshots
    return len(lengths), np.stack(columns).astype(np.int32)
