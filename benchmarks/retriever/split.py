"""The splits of the comparison: the training sequences, and the items to predict."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 5  # interactions of a user who is used


@dataclass(frozen=True)
class Split:
    """Users' items to train on, and the next item of some of the users."""

    sequences: list[NDArray[np.int32]]  # items of each user, oldest first
    tested: NDArray[np.int64]  # [n] users with a target; their history is their sequence
    targets: NDArray[np.int32]  # [n] their next item, which is never in the history

    @property
    def histories(self) -> list[NDArray[np.int32]]:
        """Sequences of the tested users."""
        return [self.sequences[user] for user in self.tested]


def leave_one_out(sequences: Sequence[NDArray[np.int32]]) -> Split:
    """Test every user with `LEAST` items or more on the last one."""
    used = [sequence for sequence in sequences if len(sequence) >= LEAST]
    return _split([sequence[:-1] for sequence in used], [sequence[-1:] for sequence in used])


def temporal(
    sequences: Sequence[NDArray[np.int32]], times: Sequence[NDArray[np.int64]], share: float
) -> Split:
    """Hold back the latest `share` of all interactions and train on the rest.

    Users are those with `LEAST` interactions or more before the cut. The target is the first item
    after the cut that is new to the user.
    """
    cut = np.quantile(np.concatenate(times), 1 - share, method="higher")
    before, after = [], []
    for sequence, time in zip(sequences, times, strict=True):
        first = int(np.searchsorted(time, cut))
        if first >= LEAST:
            before.append(sequence[:first])
            after.append(sequence[first:])
    return _split(before, after)


def _split(before: list[NDArray[np.int32]], after: list[NDArray[np.int32]]) -> Split:
    """Take the first item after the history that is new to it."""
    tested, targets = [], []
    for user, (history, following) in enumerate(zip(before, after, strict=True)):
        new = following[~np.isin(following, history)]
        if len(new):
            tested.append(user)
            targets.append(new[0])
    return Split(before, np.array(tested, np.int64), np.array(targets, np.int32))
