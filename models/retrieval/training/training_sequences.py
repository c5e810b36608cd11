"""From shards of sequences to the batches that the retriever is trained and validated on."""

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
    """What one pass over all sequences finds.

    Attributes
    ----------
    users
        Their number.
    counts
        [items] int64, how often the sequences hold each item; held-out ones do not count.
    transitions
        From an item to the next, in an epoch.
    limit
        Those users who can be validated are, if their key is smaller.
    histories, held_out
        Of the users validated: what came before, and [users] int32 their last item.
    digest
        Of all sequences in their order.
    """

    users: int
    counts: NDArray[np.int64]
    transitions: int
    limit: int
    histories: list[NDArray[np.int32]]
    held_out: NDArray[np.int32]
    digest: str

    def steps(self, config: RetrieverConfig) -> int:
        """Return how many batches an epoch has."""
        return -(-self.transitions // (config.batch_size * config.max_length))


def survey(groups: Sequence[RowGroup], items: int, config: RetrieverConfig) -> Survey:
    """Count the items, and choose the users whose last item is held out for validation.

    These are at most `validation_users` with the smallest keys among those with three items or
    more whose last one is new to them: what a history holds is never recommended, so the others
    could only be misses. Which they are does not depend on the order of the rows. One row group is
    in memory at a time.

    Parameters
    ----------
    groups
        Of all shards.
    items
        In the catalogue.
    config
        Says how many are validated.

    Raises
    ------
    ValueError
        If an index is not of the catalogue.
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
        able = np.flatnonzero(_able(flat, lengths) & (keys < limit))
        able = able[np.argsort(keys[able], kind="stable")][: config.validation_users + 1]
        chosen += [(int(keys[i]), flat[ends[i] - lengths[i] : ends[i]].copy()) for i in able]
        chosen.sort(key=lambda pair: pair[0])
        # One more is kept: equal keys are on the same side of its key, wherever they come from.
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
    """Batches of one epoch, a function of (seed, epoch).

    The row groups come in a shuffled order, and the users of as many as fill a window are shuffled.
    They are laid end to end and the whole is cut into rows of `max_length`: no position is wasted
    on padding however short the histories are, and long ones are cut elsewhere each epoch.
    Attention keeps to the user; what lies before a cut is not seen.

    Parameters
    ----------
    groups
        Of all shards.
    limit
        Of the `Survey`: the last items of those it validates are left out.
    config
        Sizes and the seed.
    epoch
        From 0.
    window_items
        That are decoded at once, unless a single row group has more.

    Yields
    ------
    Batch
        items, targets, recency, users, each [batch_size, max_length] int32. `recency` counts the
        transitions of the user that follow, wherever rows are cut, up to `max_length` - 1. The last
        batch is filled up with user -1, item 0.
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
    """Cut row groups, in their order, into runs of at most `most` items, or of one group."""
    window: list[RowGroup] = []
    for group in groups:
        if window and sum(other.items for other in window) + group.items > most:
            yield window
            window = []
        window.append(group)
    if window:
        yield window


def latest(
    histories: Sequence[NDArray[np.int32]], length: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Last `length` items of each history [batch, length], padded on the right, and how many."""
    items = np.zeros((len(histories), length), np.int32)
    lengths = np.array([min(len(history), length) for history in histories], np.int32)
    for row, history in enumerate(histories):
        items[row, : lengths[row]] = history[-length:]
    return items, lengths


def _columns(
    rows: pa.Table,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Keys [users], the items of all users end to end, and how many each has [users]."""
    lists = rows[ITEMS].combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy().astype(np.int64)
    return rows[KEY].to_numpy(), pc.list_flatten(lists).to_numpy(), lengths


def _able(flat: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether users [users] have three items or more, and the last one once."""
    last = flat[np.cumsum(lengths) - 1]
    user = np.repeat(np.arange(len(lengths)), lengths)
    times = np.bincount(user[flat == last[user]], minlength=len(lengths))
    return (lengths >= 3) & (times == 1)


def _shuffled_transitions(
    window: Sequence[RowGroup], limit: int, rng: np.random.Generator
) -> tuple[int, NDArray[np.int32]]:
    """How many users there are, and [4, transitions]: item, target, number of the user, recency."""
    rows = pa.concat_tables(group.read() for group in window)
    keys, flat, lengths = _columns(rows.take(pa.array(rng.permutation(rows.num_rows))))
    last = lengths - 1 - (_able(flat, lengths) & (keys < limit))  # place of the last target
    user = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    source = np.flatnonzero(place < last[user])
    recency = (last[user] - 1 - place)[source].astype(np.int32)
    return len(lengths), np.stack([flat[source], flat[source + 1], user[source], recency])


def _packed(columns: NDArray[np.int32], config: RetrieverConfig) -> Batch:
    """Transitions [4, batch_size * max_length] as a batch."""
    items, targets, users, recency = columns.reshape(4, config.batch_size, config.max_length)
    recency = np.minimum(recency, config.max_length - 1)
    return {"items": items, "targets": targets, "recency": recency, "users": users}
