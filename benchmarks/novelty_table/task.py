"""The task of every method, and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.language.prompt import Prompts

Pair = tuple[int, int]  # c1, c2


@dataclass(frozen=True)
class Task:
    """Find the novel interests of pairs of M clusters with a model."""

    model: str  # local Hugging Face folder
    prompts: Prompts

    @property
    def size(self) -> int:
        """M, the number of clusters."""
        return len(self.prompts.descriptions)

    def pairs(self, rows: Sequence[int]) -> list[Pair]:
        """Return all pairs of some c1, row by row."""
        return [(c1, c2) for c1 in rows for c2 in range(self.size)]

    def allowed(self, pair: Pair) -> list[str]:
        """Return the descriptions that may answer a pair."""
        return [text for c, text in enumerate(self.prompts.descriptions) if c not in pair]

    def clusters(self, answers: Sequence[str]) -> np.ndarray:
        """Return the ids [pairs, 1] of answered descriptions, -1 for any other text."""
        ids = {text: cluster for cluster, text in enumerate(self.prompts.descriptions)}
        return np.array([[ids.get(answer, -1)] for answer in answers])

    @property
    def max_tokens(self) -> int:
        """An upper limit for answers: a token has at least a byte, and one token ends the text."""
        return max(len(text.encode()) for text in self.prompts.descriptions) + 1


@dataclass(frozen=True)
class Answer:
    """The answer of a method for all pairs of some rows."""

    clusters: np.ndarray  # [pairs, n] best first, in the order of `Task.pairs`; -1 pads
    seconds: float

    @property
    def pairs_per_s(self) -> float:
        """Return the speed."""
        return len(self.clusters) / self.seconds
