"""Keeps training apart from validation and test: by user, and by time if there is a cut."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from transforms import schemas as col
from transforms.inputs.filters import before, from_on
from transforms.tables.sharding import stable_hash
from transforms.transitions.user_sequences import truncate

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class SplitSpec:
    """The shares of the users in valid and test, and the cut in time."""

    valid_share: float
    test_share: float
    seed: int  # of the hash of a user id that decides the split
    cut: int | None  # microseconds since 1970; None for no cut

    def split_users(self, user_ids: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Return the split of each user, [users] string."""
        point = stable_hash(user_ids, self.seed) / 2.0**64  # uniform in [0, 1)
        valid, both = self.valid_share, self.valid_share + self.test_share
        return pa.array(SPLITS).take(pa.array(np.where(point < valid, 1, 2 * (point < both))))

    def user_splits(self, sequences: pa.Table) -> pa.Table:
        """Return the USER_SPLITS of the users of SEQUENCES."""
        users = sequences[col.USER_ID]
        return pa.table([users, self.split_users(users)], schema=col.USER_SPLITS)

    def users(self, sequences: pa.Table, split: str) -> pa.Table:
        """Keep the SEQUENCES of the users of a split."""
        return sequences.filter(pc.equal(self.split_users(sequences[col.USER_ID]), split))

    def learned_from(self, sequences: pa.Table) -> pa.Table:
        """Keep the SEQUENCES that a model may learn from.

        Everything after the cut is left out; without a cut, the users of valid and test are.
        """
        if self.cut is not None:
            return truncate(sequences, self.cut)
        kept = self.users(sequences, "train")
        Metrics.counter(SplitSpec, "held_out_users_left_out").inc(
            sequences.num_rows - kept.num_rows
        )
        return kept


def on_side_of_cut(transitions: pa.Table, split: str, cut: int | None) -> pa.Table:
    """Keep the TRANSITIONS of a split on its side of a cut in time; without a cut, all.

    Transitions of train are before the cut, so that a model learns nothing from after it. Those of
    valid and test are from the cut on; their pair (c1, c2) may be from before.
    """
    return before(transitions, cut) if split == "train" else from_on(transitions, cut)
