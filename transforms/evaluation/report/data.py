"""What the page of a report is made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.interests.novelty_table import NoveltyTable


@dataclass(frozen=True)
class ReportData:
    """The numbers of an evaluation and the table that it judges.

    Attributes
    ----------
    metrics
        The content of `report/metrics.json`.
    table
        Of M clusters.
    items
        [M] titles of the most engaged-with eligible items of each cluster, best first.
    pair_users
        [M * M] int64, users whose two latest interests these are, by `pair_index`.
    min_users
        Counts of fewer users are not shown.

    Raises
    ------
    ValueError
        If the sizes don't fit each other.
    """

    metrics: dict[str, Any]
    table: NoveltyTable
    items: list[list[str]]
    pair_users: NDArray[np.int64]
    min_users: int

    def __post_init__(self) -> None:
        size = self.table.size
        if len(self.pair_users) != size**2:
            raise ValueError(
                f"{size} clusters have {size**2} pairs; got pair_users {self.pair_users.shape}"
            )
        if len(self.items) != size:
            raise ValueError(f"{size} clusters, but items of {len(self.items)}")
