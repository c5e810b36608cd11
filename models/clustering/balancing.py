"""Balances clusters: prices under which no cluster exceeds its capacity.

Dual ascent on a transport problem with capacities: Aurenhammer, Hoffmann and Aronov,
"Minkowski-type theorems and least-squares clustering", Algorithmica 20, 1998.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.clustering.power_diagram import PowerDiagram, costs

TOLERANCE = 0.02  # excess, as a share of a capacity, that is accepted
PRICE_STEPS = 20
_PRICE_STEP = 0.01  # first step of a price, in squared distance


@dataclass(frozen=True)
class Cap:
    """The largest load that each cluster of a level may carry."""

    weights: np.ndarray  # [m] > 0, of the points
    clusters: np.ndarray  # [finest] int, the cluster of the level that holds each finest one
    capacities: np.ndarray  # [n_level] > 0

    def loads(self, labels: np.ndarray) -> np.ndarray:
        """Sum the weights by the cluster of the level, for finest labels [m]."""
        return np.bincount(self.clusters[labels], self.weights, len(self.capacities))


class CappedPrices(NamedTuple):
    """The best prices of an ascent."""

    of_caps: list[np.ndarray]  # of the clusters of each cap
    total: np.ndarray  # [finest] float32, their sum and the base
    labels: np.ndarray  # [m], under the total
    excess: float  # the largest of a load, as a share of the capacity


def total_prices(base: np.ndarray, caps: Sequence[Cap], prices: Sequence[np.ndarray]) -> np.ndarray:
    """Add the prices of all caps to the base [finest]: [finest] float32."""
    total = base.astype(np.float64)
    for cap, price in zip(caps, prices, strict=True):
        total += price[cap.clusters]
    return total.astype(np.float32)


def capped_prices(
    labels_under: Callable[[np.ndarray], np.ndarray],
    base: np.ndarray,
    caps: Sequence[Cap],
    prices: Sequence[np.ndarray],
    most_steps: int = PRICE_STEPS,
) -> CappedPrices | None:
    """Find prices under which no cluster of any level exceeds its capacity.

    Ascent on the dual of the transport problem, whose gradient is load - capacity. Each price has
    its own step, which grows while its direction stays and shrinks when the direction flips
    (Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning: the RPROP
    algorithm", ICNN 1993).

    Parameters
    ----------
    labels_under
        Maps prices [finest] float32 to the cheapest finest cluster of each point [m].
    base
        [finest] fixed cost of each finest cluster.
    caps
        One or more per level.
    prices
        Start prices of the clusters of each cap.

    Returns
    -------
    CappedPrices or None
        The best step in which no finest cluster is empty; None without such a step.
    """
    best = None
    prices = list(prices)
    steps = [np.full(len(price), _PRICE_STEP) for price in prices]
    last_signs = [np.zeros(len(price)) for price in prices]
    for _ in range(most_steps):
        total = total_prices(base, caps, prices)
        labels = labels_under(total)
        excesses = [cap.loads(labels) / cap.capacities - 1 for cap in caps]
        largest = max(0.0, *(float(excess.max()) for excess in excesses))
        improves = best is None or largest < best.excess
        if improves and np.bincount(labels, minlength=len(base)).all():
            best = CappedPrices(list(prices), total, labels, largest)
        if best is not None and best.excess <= TOLERANCE:
            break
        for at, excess in enumerate(excesses):
            # A price falls where there is room, and below zero where a cluster is empty.
            lower = (excess < -TOLERANCE) & (prices[at] > 0) | (excess == -1)
            signs = np.where(excess > 0, 1.0, np.where(lower, -1.0, 0.0))
            steps[at] = steps[at] * np.choose(
                (signs * last_signs[at]).astype(int) + 1, [0.5, 1.0, 1.2]
            )
            prices[at] = prices[at] + steps[at] * signs
            last_signs[at] = signs
    return best


def fair_share(loads: np.ndarray, count: int) -> float:
    """Return the mean load of `count` clusters, with every load capped at this mean."""
    share = loads.sum() / count
    while (lower := np.minimum(loads, share).sum() / count) < share * (1 - 1e-6):
        share = lower
    return float(share)


def apportion(seats: int, votes: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Distribute seats in proportion to votes [n] by the largest remainder, within bounds.

    The result [n] int is between `low` and `high` and sums to `seats`; so `seats` must be between
    their sums.

    Examples
    --------
    >>> apportion(5, np.array([6.0, 3.0, 1.0]), np.array([1, 1, 1]), np.array([9, 9, 9]))
    array([3, 1, 1])
    """
    quota = seats * votes / votes.sum()
    given = np.clip(quota.astype(np.int64), low, high)
    while given.sum() < seats:
        given[np.where(given < high, quota - given, -np.inf).argmax()] += 1
    while given.sum() > seats:
        given[np.where(given > low, quota - given, np.inf).argmin()] -= 1
    return given


def shed(points: np.ndarray, sites: np.ndarray, prices: np.ndarray, cap: Cap) -> np.ndarray:
    """Raise the prices [finest] of overfull clusters until their excess moves to other clusters.

    The points with the smallest loss move first. The prices stay if the heaviest cluster would not
    get lighter or a finest cluster would be empty. All capacities of `cap` must be equal.
    """
    labels_under = PowerDiagram(points, sites, prices)
    limit = cap.capacities.max()
    before = cap.loads(labels_under(prices))
    if before.max() <= limit:
        return prices
    raised = prices.copy()
    for cluster in np.flatnonzero(before > limit):
        inside = cap.clusters == cluster
        members = np.flatnonzero(inside[labels_under(raised)])
        scores = costs(points[members], sites) + raised
        raised[inside] += _surcharge(scores, inside, cap.weights[members], limit)
    after = labels_under(raised)
    lighter = cap.loads(after).max() < before.max()
    return raised if lighter and np.bincount(after, minlength=len(prices)).all() else prices


def _surcharge(scores: np.ndarray, inside: np.ndarray, loads: np.ndarray, limit: float) -> float:
    """Return the price increase after which the clusters `inside` [finest] carry the limit.

    `scores` [members, finest] and `loads` [members] are those of their points.
    """
    margins = scores[:, ~inside].min(1, initial=np.inf) - scores[:, inside].min(1)
    # The heaviest point stays: it would overfill any other cluster.
    margins = np.minimum(margins, margins[loads.argmax()])
    order = np.argsort(-margins, kind="stable")
    within = int(np.searchsorted(loads[order].cumsum(), limit, side="right"))
    kept = max(within, int((margins == margins.max()).sum()))
    return float(margins[order[kept - 1 : kept + 1]].mean()) if kept < len(margins) else 0.0
