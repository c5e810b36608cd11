"""What the retrievers of `retriever` are trained on and asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 5  # interactions of a user who is taken


@dataclass(frozen=True)
class Split:
    """Users' items to train on, and the next item of some of the users.

    Attributes
    ----------
    sequences
        For each user the indices of items, oldest first: to train on, and the history when tested.
    tested
        [n] int64, the users who are tested.
    targets
        [n] int32, what each of them engaged with next; never an item of the history.
    """

    sequences: list[NDArray[np.int32]]
    tested: NDArray[np.int64]
    targets: NDArray[np.int32]

    @property
    def histories(self) -> list[NDArray[np.int32]]:
        """Sequences of the users who are tested."""
        return [self.sequences[user] for user in self.tested]


def leave_one_out(sequences: Sequence[NDArray[np.int32]]) -> Split:
    """Test every user with `LEAST` items or more on the last one."""
    able = [sequence for sequence in sequences if len(sequence) >= LEAST]
    return _split([sequence[:-1] for sequence in able], [sequence[-1:] for sequence in able])


def temporal(
    sequences: Sequence[NDArray[np.int32]], times: Sequence[NDArray[np.int64]], share: float
) -> Split:
    """Train on what came before the latest `share` of all interactions, and test what came next.

    Users are those with `LEAST` interactions or more before the cut; of what each engaged with
    after it, the first item that is new to the user is the target.
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
    for user, (history, coming) in enumerate(zip(before, after, strict=True)):
        new = coming[~np.isin(coming, history)]
        if len(new):
            tested.append(user)
            targets.append(new[0])
    return Split(before, np.array(tested, np.int64), np.array(targets, np.int32))
