"""The novelty table in memory: the candidates for the next interest after every pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class NoveltyTable:
    """The candidates of all pairs (c1, c2) of M clusters, with the descriptions of the clusters.

    Raises ValueError if the shapes differ or a candidate is no cluster.
    """

    novel: NDArray[np.int32]  # [M, M, n] the candidates of (c1, c2), best first, -1 pads
    probability: NDArray[np.float32]  # [M, M, n] of the candidates
    descriptions: Sequence[str]  # [M]
    blocked: tuple[int, ...] = ()  # clusters that are never recommended: no pair lists them

    def __post_init__(self) -> None:
        size, shape = self.size, self.novel.shape
        if len(shape) != 3 or shape[:2] != (size, size) or not shape[2]:
            raise ValueError(
                f"novel has shape {shape} for {size} descriptions: "
                f"it must be [{size}, {size}, at least 1]"
            )
        if self.probability.shape != shape:
            raise ValueError(f"probability has shape {self.probability.shape}, novel has {shape}")
        if np.min(self.novel) < -1 or np.max(self.novel) >= size:
            raise ValueError(
                f"novel clusters {np.min(self.novel)} to {np.max(self.novel)}: "
                f"they must be -1 (none) to {size - 1}"
            )

    @property
    def size(self) -> int:
        """The number of clusters, M."""
        return len(self.descriptions)

    @cached_property
    def allowed(self) -> NDArray[np.bool_]:
        """Whether each cluster may be recommended, [M]."""
        return ~np.isin(np.arange(self.size), self.blocked)

    def candidate_count(
        self, c1: NDArray[np.integer], c2: NDArray[np.integer]
    ) -> NDArray[np.integer]:
        """Return how many clusters may follow each pair, listed or not: [...] for pairs [...]."""
        allowed = self.allowed
        return np.sum(allowed) - allowed[c1] - (allowed[c2] & (c1 != c2))
