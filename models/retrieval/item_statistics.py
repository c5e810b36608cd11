"""What the engagements say of the items: variables, so that a compiled step may get later ones."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class ItemStatistics:
    """Which items are known, their share of the engagements, and how popular they were when.

    They are no weights: Keras does not know of them, and checkpoints do not hold them. `counts`
    [items] are the engagements with each item, `popularity` [items, S, H] is `Popularity.logs`.
    """

    def __init__(self, counts: NDArray[np.int64], popularity: NDArray[np.float32]) -> None:
        self.size, _, self.half_lives = popularity.shape
        self.known = _variable(counts > 0)  # [items]
        self.share = _variable(_shares(counts))  # [items]
        self.popularity = _variable(popularity)  # [items, S, H]

    @classmethod
    def timeless(cls, counts: NDArray[np.int64]) -> "ItemStatistics":
        """Make the statistics of engagements without times."""
        return cls(counts, np.log(_shares(counts))[:, None, None])

    def assign(self, counts: NDArray[np.int64], popularity: NDArray[np.float32]) -> None:
        """Take other statistics of the same items in as many snapshots."""
        self.known.assign(counts > 0)
        self.share.assign(_shares(counts))
        self.popularity.assign(popularity)

    def past(self, items: tf.Tensor) -> tf.Tensor:
        """Return the log popularities [n, S, H] of items [n] in all snapshots."""
        return tf.gather(self.popularity, items)

    def at(self, items: tf.Tensor, snapshots: tf.Tensor) -> tf.Tensor:
        """Return the log popularities [..., H] of items [...], each in its own snapshot [...]."""
        return tf.gather_nd(self.popularity, tf.stack([items, snapshots], axis=-1))

    def now(self, items: tf.Tensor) -> tf.Tensor:
        """Return the log popularities [..., H] of items [...] in the last snapshot."""
        return self.at(items, tf.fill(tf.shape(items), tf.shape(self.popularity)[1] - 1))


def _variable(value: NDArray[Any]) -> tf.Variable:
    return tf.Variable(value, trainable=False)


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    # Add one: an item without engagements has a logarithm too.
    return ((counts + 1) / np.sum(counts + 1)).astype(np.float32)
