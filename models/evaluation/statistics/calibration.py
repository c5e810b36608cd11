"""How often predictions with probability p come true."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 12  # bin b: probabilities from 2^-(b+1) up to 2^-b
_ONE = 1 << 32  # probabilities are added up in 2^-32: exact in any order


@dataclass(frozen=True, eq=False)
class ReliabilitySums:
    """Sums over predictions, by bin of their probability.

    A prediction is a cluster listed for a transition. The last bin also has all smaller
    probabilities.
    """

    predictions: NDArray[np.int64]  # [BINS]
    taken_up: NDArray[np.int64]  # [BINS] predictions of the cluster that the user took up
    probability: NDArray[np.int64]  # [BINS] sum of the probabilities, in 2^-32

    def __add__(self, other: "ReliabilitySums") -> "ReliabilitySums":
        mine, others = vars(self), vars(other)
        return ReliabilitySums(**{name: mine[name] + others[name] for name in mine})

    def expected_calibration_error(self) -> float:
        """Return sum_b n_b / n |observed_b - predicted_b| (Naeini, Cooper & Hauskrecht, AAAI 2015).

        >>> listed = np.array([[0.5, 0.25]], np.float32)
        >>> sums = reliability_sums(np.array([[1, 2]]), listed, np.array([1]))
        >>> sums.expected_calibration_error()
        0.375
        """
        gaps = np.abs(self.taken_up - self.probability / _ONE)
        return float(np.sum(gaps) / max(1, self.predictions.sum()))

    def bins(self, least: int) -> list[dict[str, Any]]:
        """Return the bins with at least `least` predictions, smallest probabilities first.

        `low` and `high` are the 95% interval of the observed share (Wilson, "Probable inference,
        the law of succession, and statistical inference", JASA 22, 1927).
        """
        from scipy.stats import binomtest

        rows = []
        for b in reversed(range(BINS)):
            count, taken_up = int(self.predictions[b]), int(self.taken_up[b])
            if count < max(1, least):
                continue
            interval = binomtest(taken_up, count).proportion_ci(method="wilson")
            rows.append(
                {
                    "probability": round(int(self.probability[b]) / _ONE / count, 6),
                    "observed": round(taken_up / count, 6),
                    "low": round(interval.low, 6),
                    "high": round(interval.high, 6),
                    "predictions": count,
                }
            )
        return rows


def reliability_sums(
    listed: NDArray[np.int32], probability: NDArray[np.float32], novel: NDArray[np.int32]
) -> ReliabilitySums:
    """Put predictions in bins.

    `listed` [n, k] are the clusters listed for each transition, -1 pads, with their probabilities
    [n, k]; `novel` [n] are the clusters that the users took up.
    """
    there = listed >= 0
    p = probability[there].astype(np.float64)
    least = 2.0**-BINS
    which = np.clip(np.ceil(-np.log2(np.maximum(p, least))) - 1, 0, BINS - 1).astype(np.int64)
    sums = np.zeros((3, BINS), np.int64)
    np.add.at(sums[0], which, 1)
    np.add.at(sums[1], which, (listed == novel[:, None])[there])
    np.add.at(sums[2], which, np.round(p * _ONE).astype(np.int64))
    return ReliabilitySums(*sums)
