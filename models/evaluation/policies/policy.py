"""A policy ranks the clusters that a user may take up next."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Policy(Protocol):
    """Ranks the clusters that may follow the two latest interests of a user."""

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score every cluster as the next novel interest, [n, M], higher is better.

        `c1` and `c2` [n] are the older and the newest interest, equal for users with one. The score
        of c1, of c2 and of any other cluster that may not be recommended is -inf. Equal scores rank
        by cluster id.
        """
