"""Aligns the novelty table with the user: how much each part of a score counts.

The score of a novel cluster c for a user is

    w_table  log p_table(c | recent pairs)
  + w_user   log p_user(c | history)
  + w_recent log p(c in the last days)

The table proposes, and the user's own sequence model has a say in the choice (a logarithmic opinion
pool: Genest & Zidek, Statistical Science 1986; Wang et al., arXiv 2504.05522, choose the best of n
proposals with a model of the user). The weights are fitted by maximum likelihood on transitions
from which no part has learned.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

PARTS = ("table", "user", "recent")
# The parts that a policy uses: how much worse it is without one is what that part is worth.
ABLATIONS = {"aligned": PARTS} | {
    f"aligned_without_{part}": tuple(other for other in PARTS if other != part) for part in PARTS
}
# Weights are drawn towards the best single part as if by so many further transitions: few
# transitions cannot make the blend worse than a part of it.
_PRIOR_CASES = 20.0
_ONLY_USER = np.array([0.0, 1.0, 0.0])  # without any transition to fit the weights on


@dataclass(frozen=True, eq=False)
class Cases:
    """Transitions of users, with the parts of the score of each cluster."""

    parts: NDArray[np.float32]  # [n, M, PARTS]
    able: NDArray[np.bool_]  # [n, M] the clusters that may be chosen
    novel: NDArray[np.int32]  # [n] the cluster that the user took up


def fit_weights(cases: Cases, used: tuple[str, ...] = PARTS) -> NDArray[np.float64]:
    """Return the weights of PARTS, at least 0, with the highest likelihood; 0 for unused parts.

    They are the maximum of sum_i log softmax(parts_i @ w)[novel_i] - a/2 |w - w_best|^2 with a =
    _PRIOR_CASES and w_best the best single part at its own best weight. Cases whose novel cluster
    may not be chosen do not count.
    """
    index = [PARTS.index(part) for part in PARTS if part in used]
    possible = cases.able[np.arange(len(cases.novel)), cases.novel]
    weights = np.zeros(len(PARTS))
    if not possible.any():
        weights[index] = _ONLY_USER[index]
        return weights
    parts = cases.parts[possible][..., index].astype(np.float64)
    able, novel = cases.able[possible], cases.novel[possible]
    singles = [
        _maximum(parts[..., [one]], able, novel, np.zeros(1), 0) for one in range(len(index))
    ]
    best = int(np.argmin([loss for _, loss in singles]))
    alone = np.zeros(len(index))
    alone[best] = singles[best][0][0]
    weights[index], _ = _maximum(parts, able, novel, alone, _PRIOR_CASES)
    return weights


def _maximum(
    parts: NDArray[np.float64],
    able: NDArray[np.bool_],
    novel: NDArray[np.int32],
    towards: NDArray[np.float64],
    prior: float,
) -> tuple[NDArray[np.float64], float]:
    """Return the weights with the least penalised negative log-likelihood, and that."""
    rows = np.arange(len(novel))
    chosen = parts[rows, novel]  # [n, parts]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = np.where(able, parts @ weights, -np.inf)
        expected = np.einsum("nm,nmk->k", softmax(scores, axis=1), parts)
        value = -np.sum(log_softmax(scores, axis=1)[rows, novel])
        far = weights - towards
        return value + prior / 2 * far @ far, expected - chosen.sum(axis=0) + prior * far

    found = minimize(loss, np.maximum(towards, 0.1), jac=True, bounds=[(0, None)] * len(towards))
    return found.x, float(found.fun)
