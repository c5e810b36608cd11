"""Makes batches for training and validation of the retriever from shards of sequences."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.training.sequence_shards import ITEMS, KEY, RowGroup

WINDOW_ITEMS = 1 << 21
_NO_LIMIT = np.iinfo(np.int64).max

Batch = dict[str, NDArray[np.int32]]


@dataclass(frozen=True)
class Survey:
    """The result of one pass over all sequences."""

    users: int
    counts: NDArray[np.int64]  # [items] engagements with each item, without the held-out ones
    transitions: int  # from an item to the next, in an epoch
    limit: int  # users with a smaller key are validation users, if `_last_is_new`
    histories: list[NDArray[np.int32]]  # of the validation users, without the last item
    held_out: NDArray[np.int32]  # [validation users], their last items
    digest: str  # of all sequences in their order

    def steps(self, config: RetrieverConfig) -> int:
        """Return the number of batches in an epoch."""
        return -(-self.transitions // (config.batch_size * config.max_length))


def survey(groups: Sequence[RowGroup], items: int, config: RetrieverConfig) -> Survey:
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
    limit, chosen = _NO_LIMIT, list[tuple[int, NDArray[np.int32]]]()
    for group in groups:
        keys, flat, lengths = _columns(group.read())
        if len(flat) and not 0 <= np.min(flat) <= np.max(flat) < items:
            raise ValueError(
                f"item indices {np.min(flat)} to {np.max(flat)} in the sequences: "
                f"the catalogue has indices 0 to {items - 1}"
            )
        counts += np.bincount(flat, minlength=items)
        users += len(keys)
        transitions += len(flat) - len(keys)
        for array in (keys, lengths, flat):
            digest.update(array.tobytes())
        ends = np.cumsum(lengths)
        rows = np.flatnonzero(_last_is_new(flat, lengths) & (keys < limit))
        rows = rows[np.argsort(keys[rows], kind="stable")]
        chosen += [
            (int(keys[i]), flat[ends[i] - lengths[i] : ends[i]].copy())
            for i in rows[: config.validation_users + 1]
        ]
        chosen.sort(key=lambda pair: pair[0])
        # One more is kept as the limit: equal keys are on the same side of it in any order.
        del chosen[config.validation_users + 1 :]
        if len(chosen) > config.validation_users:
            limit = chosen[-1][0]
    sequences = [sequence for key, sequence in chosen if key < limit]
    held_out = np.array([sequence[-1] for sequence in sequences], np.int32)
    return Survey(
        users,
        counts - np.bincount(held_out, minlength=items),
        transitions - len(held_out),
        limit,
        [sequence[:-1] for sequence in sequences],
        held_out,
        digest.hexdigest(),
    )


def batches(
    groups: Sequence[RowGroup],
    limit: int,
    config: RetrieverConfig,
    epoch: int,
    window_items: int = WINDOW_ITEMS,
) -> Iterator[Batch]:
    """Yield the batches of an epoch (from 0), a function of the seed and the epoch.

    The row groups come in a shuffled order, and the users of a window of `window_items` items (or
    of one larger row group) are shuffled. All sequences are joined and cut into rows of
    `max_length`: no position is padding even if histories are short, and long ones are cut
    elsewhere in each epoch. Attention stays within a user; items before a cut are not seen.

    A batch has items, targets, recency and users, each [batch_size, max_length] int32. `recency`
    counts the transitions of the user that follow, across cuts, up to `max_length` - 1. The last
    batch is filled up with user -1, item 0. The held-out items (see `Survey.limit`) are left out.
    """
    rng = np.random.default_rng([config.seed, epoch])
    order = [groups[index] for index in rng.permutation(len(groups))]
    size = config.batch_size * config.max_length
    rest = np.zeros((4, 0), np.int32)
    users = 0
    for window in windows(order, window_items):
        count, columns = _shuffled_transitions(window, limit, rng)
        columns[2] += users
        users += count
        rest = np.concatenate([rest, columns], axis=1)
        whole = rest.shape[1] // size * size
        for start in range(0, whole, size):
            yield _packed(rest[:, start : start + size], config)
        rest = rest[:, whole:].copy()
    if missing := -rest.shape[1] % size:
        padding = np.repeat(np.array([[0], [0], [-1], [0]], np.int32), missing, axis=1)
        yield _packed(np.concatenate([rest, padding], axis=1), config)


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
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Return the keys [users], the items of all users joined, and their numbers [users]."""
    lists = rows[ITEMS].combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy().astype(np.int64)
    return rows[KEY].to_numpy(), pc.list_flatten(lists).to_numpy(), lengths


def _last_is_new(flat: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which users [users] have at least three items and the last one only once."""
    last = flat[np.cumsum(lengths) - 1]
    user = np.repeat(np.arange(len(lengths)), lengths)
    times = np.bincount(user[flat == last[user]], minlength=len(lengths))
    return (lengths >= 3) & (times == 1)


def _shuffled_transitions(
    window: Sequence[RowGroup], limit: int, rng: np.random.Generator
) -> tuple[int, NDArray[np.int32]]:
    """Return the number of users, and [4, transitions]: item, target, user number, recency."""
    rows = pa.concat_tables(group.read() for group in window)
    keys, flat, lengths = _columns(rows.take(pa.array(rng.permutation(rows.num_rows))))
    last = lengths - 1 - (_last_is_new(flat, lengths) & (keys < limit))  # of the last target
    user = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    position = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    source = np.flatnonzero(position < last[user])
    recency = (last[user] - 1 - position)[source].astype(np.int32)
    return len(lengths), np.stack([flat[source], flat[source + 1], user[source], recency])


def _packed(columns: NDArray[np.int32], config: RetrieverConfig) -> Batch:
    """Return transitions [4, batch_size * max_length] as a batch."""
    items, targets, users, recency = columns.reshape(4, config.batch_size, config.max_length)
    recency = np.minimum(recency, config.max_length - 1)
    return {"items": items, "targets": targets, "recency": recency, "users": users}
