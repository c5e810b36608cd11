"""What bandits learn, on rewards that are known."""

import numpy as np
import pytest

from models.evaluation.simulation.bandits import Arms, HierarchicalBandit, NeuralLinearBandit
from tests.models.evaluation.simulation.synthetic_users import ARMS, M

RNG = np.random.default_rng(2)
C1, C2, SHOWN = RNG.integers(0, M, (3, 3000)).astype(np.int32)
ALL = np.arange(M, dtype=np.int32)


def test_neural_linear_scores_scatter_around_ridge_regression() -> None:
    bandit = NeuralLinearBandit(ARMS, 0, dimensions=3)
    reward = RNG.random(3000) < 0.3
    bandit.learn(C1, C2, SHOWN, reward)
    x = bandit.features(C1, C2, SHOWN)
    weights = np.linalg.solve(np.eye(x.shape[1]) + x.T @ x, x.T @ reward)
    pair = np.full(M, 4, np.int32), np.full(M, 9, np.int32)
    many = np.full(20_000, 4, np.int32), np.full(20_000, 9, np.int32)
    drawn = bandit.scores(*many)
    assert np.allclose(drawn.mean(axis=0), bandit.features(*pair, ALL) @ weights, atol=0.003)
    # The spread of x . w under the posterior is that of noise times x' A^-1 x.
    features = bandit.features(*pair, ALL)
    spread = np.einsum(
        "cf,fg,cg->c", features, np.linalg.inv(np.eye(x.shape[1]) + x.T @ x), features
    )
    ratio = drawn.std(axis=0) / np.sqrt(spread)
    assert np.allclose(ratio, ratio.mean(), rtol=0.05)


@pytest.mark.parametrize("bandit", [HierarchicalBandit, NeuralLinearBandit])
def test_bandits_come_to_show_what_pays(bandit: type) -> None:
    learner = bandit(ARMS, 1)
    for _ in range(3):
        learner.learn(C1, C2, SHOWN, SHOWN == 8)
    assert np.mean(np.argmax(learner.scores(C1, C2), axis=1) == 8) > 0.9


def test_hierarchical_choice_goes_from_coarse_to_fine() -> None:
    arms = Arms(np.array([[0, 0, 1, 1], [0, 1, 2, 3]], np.int32), np.eye(4, dtype=np.float32))
    bandit = HierarchicalBandit(arms, 0, dimensions=2)
    shown = np.repeat(np.arange(4), 500).astype(np.int32)
    context = np.zeros(2000, np.int32)
    # Node 0 pays more in all (0.5) than node 1 (0.35), whose child 3 pays more than child 1 (0.1).
    paid = np.tile(np.arange(500), 4) < np.repeat([450, 50, 0, 350], 500)
    for _ in range(20):
        bandit.learn(context, context, shown, paid)
    order = np.argsort(-bandit.scores(context, context), axis=1)
    assert np.mean(np.all(order == [0, 1, 3, 2], axis=1)) > 0.95
