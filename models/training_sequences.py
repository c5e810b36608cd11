"""From the sequences of users to the batches that the retriever is trained and validated on."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from models.retriever_config import RetrieverConfig

Batch = dict[str, NDArray[np.int32]]


def hold_out(
    sequences: Sequence[NDArray[np.int32]], config: RetrieverConfig
) -> tuple[list[NDArray[np.int32]], list[NDArray[np.int32]], NDArray[np.int32]]:
    """Take the last item from at most `validation_users` users with three or more.

    Users whose last item occurs earlier too are not asked: what a history holds is never
    recommended, so they could only be misses.

    Returns
    -------
    training, histories, held_out
        All users' sequences to train on; of those validated, the history, and [users] the item.
    """
    able = [
        user
        for user, sequence in enumerate(sequences)
        if len(sequence) >= 3 and sequence[-1] not in sequence[:-1]
    ]
    rng = np.random.default_rng(config.seed)
    count = min(len(able), config.validation_users)
    chosen = np.sort(rng.choice(np.array(able, np.int64), count, replace=False))
    training = list(sequences)
    for user in chosen:
        training[user] = sequences[user][:-1]
    histories = [training[user] for user in chosen]
    return training, histories, np.array([sequences[user][-1] for user in chosen], np.int32)


def batches(
    sequences: Sequence[NDArray[np.int32]], config: RetrieverConfig, epoch: int
) -> Iterator[Batch]:
    """Batches of one epoch, a function of (seed, epoch).

    The users, shuffled, are laid end to end and the whole is cut into rows of `max_length`: no
    position is wasted on padding however short the histories are, and long ones are cut elsewhere
    each epoch. Attention keeps to the user; what lies before a cut is not seen.

    Yields
    ------
    Batch
        items, targets, places, users, each [batch_size, max_length] int32. `places` counts from
        the start of the user within the row. The last batch is filled up with user -1, item 0.
    """
    order = np.random.default_rng([config.seed, epoch]).permutation(len(sequences))
    length = config.max_length
    sizes = np.array([len(sequences[user]) - 1 for user in order])
    total = int(np.sum(sizes))
    rows = -(-total // (length * config.batch_size)) * config.batch_size
    shape = (rows, length)
    padding = (0, rows * length - total)

    items = np.concatenate([sequences[user][:-1] for user in order])
    targets = np.concatenate([sequences[user][1:] for user in order])
    users = np.pad(np.repeat(order, sizes), padding, constant_values=-1).reshape(shape)
    index = np.broadcast_to(np.arange(length), shape)
    starts = np.diff(users, axis=1, prepend=-2) != 0  # where a user begins in a row
    places = index - np.maximum.accumulate(np.where(starts, index, 0), axis=1)
    arrays = {
        "items": np.pad(items, padding).reshape(shape),
        "targets": np.pad(targets, padding).reshape(shape),
        "places": places,
        "users": users,
    }
    for row in range(0, rows, config.batch_size):
        yield {
            name: array[row : row + config.batch_size].astype(np.int32)
            for name, array in arrays.items()
        }


def latest(
    histories: Sequence[NDArray[np.int32]], length: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Last `length` items of each history [batch, length], padded on the right, and how many."""
    items = np.zeros((len(histories), length), np.int32)
    lengths = np.array([min(len(history), length) for history in histories], np.int32)
    for row, history in enumerate(histories):
        items[row, : lengths[row]] = history[-length:]
    return items, lengths
