"""The Poisson bootstrap: confidence intervals without drawing users one by one.

Each user counts Poisson(1) times in a resample (Chamandy et al., "Estimating Uncertainty for
Massive Data Streams", 2012). The weights are hashes of the user and the resample: every worker
computes the same ones, and all policies are measured on the same resamples.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 2.5, 97.5  # percentiles of an interval
_MOST = 20  # Poisson(1) is larger once in 1e19


# The distribution function of Poisson(1), in 2^-64.
_CUMULATIVE = np.cumsum([1 / math.factorial(count) for count in range(_MOST)]) / math.e
_ENDS = np.array([min(int(end * 2.0**64), 2**64 - 1) for end in _CUMULATIVE.tolist()], np.uint64)


def poisson_weights(hashes: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Return how often each user counts, [users, 1 + resamples]; 1 in the first column.

    The distribution function of Poisson(1) is inverted at uniform hashes [users, resamples].

    >>> poisson_weights(np.array([[0, 2**63, 2**64 - 2**58]], np.uint64))
    array([[1, 0, 1, 4]], dtype=int32)
    """
    weights = np.ones((len(hashes), 1 + hashes.shape[1]), np.int32)
    weights[:, 1:] = np.searchsorted(_ENDS, hashes, side="right")
    return weights


def interval(samples: NDArray[np.float64]) -> dict[str, Any]:
    """Return value, low and high (percentiles) to six digits; None where undefined.

    The samples are [1 + resamples]: the observed value first, NaN where undefined.

    >>> interval(np.array([0.5, 0.25, 0.75]))
    {'value': 0.5, 'low': 0.2625, 'high': 0.7375}
    """
    value, resamples = float(samples[0]), samples[1:][np.isfinite(samples[1:])]
    if math.isnan(value):
        return {"value": None, "low": None, "high": None}
    low, high = np.percentile(resamples, [LOW, HIGH]) if len(resamples) else (value, value)
    return {"value": round(value, 6), "low": round(float(low), 6), "high": round(float(high), 6)}
