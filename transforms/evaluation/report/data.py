"""What the page of a report is made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReportData:
    """The numbers of an evaluation and the table that it judges.

    Attributes
    ----------
    metrics
        The content of `report/metrics.json`.
    descriptions
        [M] of the clusters, by id.
    novel
        [M * M, n] int32, the answers after (c1, c2) in row c1 * M + c2, best first; -1 pads.
    probability
        [M * M, n] float32, of the answers; any value where they are -1.
    items
        [M] titles of the most engaged-with eligible items of each cluster, best first.
    pair_users
        [M * M] int64, users whose two latest interests these are.
    min_users
        Counts of fewer users are not shown.

    Raises
    ------
    ValueError
        If the sizes don't fit each other.
    """

    metrics: dict[str, Any]
    descriptions: list[str]
    novel: NDArray[np.int32]
    probability: NDArray[np.float32]
    items: list[list[str]]
    pair_users: NDArray[np.int64]
    min_users: int

    def __post_init__(self) -> None:
        size = len(self.descriptions)
        pairs = (len(self.novel), len(self.probability), len(self.pair_users))
        if pairs != (size**2,) * 3 or self.novel.shape != self.probability.shape:
            raise ValueError(
                f"{size} clusters have {size**2} pairs; got novel {self.novel.shape}, probability "
                f"{self.probability.shape}, pair_users {self.pair_users.shape}"
            )
        if len(self.items) != size:
            raise ValueError(f"{size} clusters, but items of {len(self.items)}")
