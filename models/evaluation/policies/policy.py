"""A policy: which interest it would show a user next."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Policy(Protocol):
    """Ranks the clusters that may follow the two latest interests of a user."""

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score every cluster as the next novel interest.

        Parameters
        ----------
        c1, c2
            [n] the older and the newest interest; equal where only one is known.

        Returns
        -------
        [n, M], higher is better; -inf for c1, c2 and whatever else may not be an answer. Equal
        scores rank by cluster id.
        """
