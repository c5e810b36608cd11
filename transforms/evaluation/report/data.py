"""The data of the report's page."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReportData:
    """The numbers of an evaluation and the evaluated table."""

    metrics: dict[str, Any]  # the content of `report/metrics.json`
    descriptions: list[str]  # [M] by cluster id
    # [M * M, n] answers to (c1, c2) in row c1 * M + c2, best first; -1 pads
    novel: NDArray[np.int32]
    probability: NDArray[np.float32]  # [M * M, n] of the answers; any value where they are -1
    items: list[list[str]]  # [M] titles of the most popular eligible items, best first
    pair_users: NDArray[np.int64]  # [M * M] users whose two latest interests these are
    min_users: int  # counts of fewer users are suppressed
