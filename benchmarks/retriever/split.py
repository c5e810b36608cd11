"""The splits of the comparison: the training sequences, and the items to predict."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 5  # interactions of a user who is used

Items = NDArray[np.int32]
Times = NDArray[np.int64]  # microseconds since 1970


@dataclass(frozen=True)
class Split:
    """Users' items to train on, and the next item of some of the users."""

    sequences: list[Items]  # items of each user, oldest first
    times: list[Times]  # of these
    tested: NDArray[np.int64]  # [n] users with a target; their history is their sequence
    targets: Items  # [n] their next item, which is never in the history
    asked_at: Times  # [n] when the recommender is asked

    @property
    def histories(self) -> list[Items]:
        """Sequences of the tested users."""
        return [self.sequences[user] for user in self.tested]


def leave_one_out(sequences: Sequence[Items], times: Sequence[Times]) -> Split:
    """Test every user with `LEAST` items or more on the last one, at its time."""
    used = [user for user, sequence in enumerate(sequences) if len(sequence) >= LEAST]
    return _split(
        [sequences[user][:-1] for user in used],
        [times[user][:-1] for user in used],
        [sequences[user][-1:] for user in used],
        np.array([times[user][-1] for user in used]),
    )


def temporal(sequences: Sequence[Items], times: Sequence[Times], share: float) -> Split:
    """Hold back the latest `share` of all interactions, train on the rest, and test at the cut.

    Users are those with `LEAST` interactions or more before the cut. The target is the first item
    after the cut that is new to the user.
    """
    cut = np.quantile(np.concatenate(times), 1 - share, method="higher")
    first = [int(np.searchsorted(of_user, cut)) for of_user in times]
    used = [user for user, at in enumerate(first) if at >= LEAST]
    return _split(
        [sequences[user][: first[user]] for user in used],
        [times[user][: first[user]] for user in used],
        [sequences[user][first[user] :] for user in used],
        np.full(len(used), cut),
    )


def _split(before: list[Items], times: list[Times], after: list[Items], asked_at: Times) -> Split:
    """Take the first item after the history that is new to it."""
    new = [
        following[~np.isin(following, history)]
        for history, following in zip(before, after, strict=True)
    ]
    tested = np.array([user for user, items in enumerate(new) if len(items)], np.int64)
    targets = np.array([new[user][0] for user in tested], np.int32)
    return Split(before, times, tested, targets, asked_at[tested])
