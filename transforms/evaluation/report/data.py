"""The data of the report's page."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.interests.novelty_table import NoveltyTable


@dataclass(frozen=True)
class ReportData:
    """The numbers of an evaluation and the evaluated table."""

    metrics: dict[str, Any]  # the content of `report/metrics.json`
    table: NoveltyTable  # of M clusters
    items: list[list[str]]  # [M] titles of the most popular eligible items, best first
    pair_users: NDArray[np.int64]  # [M * M] by `pair_index`: users with these two latest interests
    min_users: int  # counts of fewer users are suppressed

    def __post_init__(self) -> None:
        size = self.table.size
        if len(self.pair_users) != size**2:
            raise ValueError(
                f"{size} clusters have {size**2} pairs; got pair_users {self.pair_users.shape}"
            )
        if len(self.items) != size:
            raise ValueError(f"{size} clusters, but items of {len(self.items)}")
