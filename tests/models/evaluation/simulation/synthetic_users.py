"""Users of a model that is easy to see through."""

import numpy as np
from numpy.typing import NDArray

from models.common.hashing import mix
from models.evaluation.simulation.bandits import Arms
from models.evaluation.simulation.simulation import SimulationConfig
from models.evaluation.simulation.user_model import Histories, UserModel, UserState

M = 24
ARMS = Arms(
    np.array([np.arange(M) // 6, np.arange(M) // 2, np.arange(M)], np.int32),
    np.random.default_rng(5).normal(size=(M, 8)).astype(np.float32),
)
CONFIG = SimulationConfig(users=200, days=20, seeds=1, slots=6, exploring=2)
# Users want the two topmost interests 6 to 11 of the tree, hardly any other.
WANTED = np.where(np.arange(M) // 6 == 1, 0.0, -5.0).astype(np.float32)


class ByNumber:
    """Scores that are the same for every user."""

    def __init__(self, scores: NDArray) -> None:
        self._scores = scores.astype(np.float32)

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.broadcast_to(self._scores, (len(c1), len(self._scores)))


def easy_model(wanted: NDArray[np.float32] = WANTED) -> UserModel:
    """Users who discover half the time, by popularity alone."""
    return UserModel(
        discovery=np.append(np.full(M, 0.5), 0).astype(np.float32),
        log_popularity=wanted,
        log_lift=np.zeros((M, M), np.float32),
        half_life=8.0,
        satiation=np.ones(6, np.float32),
    )


def users_of(model: UserModel, count: int = CONFIG.users) -> tuple[UserState, NDArray[np.uint64]]:
    """Users with three engagements with clusters that few want, and a hash of each."""
    start = np.arange(count) % 6
    clusters = np.stack([start, start + 12, start], axis=1).ravel().astype(np.int32)
    state = model.state_of(Histories(np.arange(count + 1) * 3, clusters))
    return state, mix(np.arange(count), 3)
