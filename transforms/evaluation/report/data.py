"""The data of the report's page."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReportData:
    """The numbers of an evaluation and the evaluated table.

    Raises
    ------
    ValueError
        If the sizes do not match.
    """

    metrics: dict[str, Any]  # the content of `report/metrics.json`
    descriptions: list[str]  # [M] by cluster id
    # [M * M, n] answers to (c1, c2) in row c1 * M + c2, best first; -1 pads
    novel: NDArray[np.int32]
    probability: NDArray[np.float32]  # [M * M, n] of the answers; any value where they are -1
    items: list[list[str]]  # [M] titles of the most popular eligible items, best first
    pair_users: NDArray[np.int64]  # [M * M] users whose two latest interests these are
    min_users: int  # counts of fewer users are suppressed

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
