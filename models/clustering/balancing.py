"""Prices of clusters under which none carries more than it may.

Dual ascent on a transport problem with capacities: Aurenhammer, Hoffmann and Aronov,
"Minkowski-type theorems and least-squares clustering", Algorithmica 20, 1998.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.clustering.power_diagram import PowerDiagram, costs

TOLERANCE = 0.02  # of a capacity: what is over it by less is as good as not
PRICE_STEPS = 20
_PRICE_STEP = 0.01  # first step of a price, in squared distance


@dataclass(frozen=True)
class Cap:
    """What the clusters of a level may carry of a weight.

    Attributes
    ----------
    weights
        [m] > 0.
    clusters
        [finest] int, the cluster of the level that holds each finest one.
    capacities
        [n_level] > 0.
    """

    weights: np.ndarray
    clusters: np.ndarray
    capacities: np.ndarray


def summed(base: np.ndarray, caps: Sequence[Cap], prices: Sequence[np.ndarray]) -> np.ndarray:
    """Sum the prices of the clusters of each cap, and the base [finest]: [finest] float32."""
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
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, float] | None:
    """Find prices under which no cluster of any level is overfull.

    Ascent on the dual of the transport problem, whose gradient is load - capacity. Each price has
    its own step that grows while it keeps its direction and shrinks when that flips (Riedmiller
    and Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm",
    ICNN 1993).

    Parameters
    ----------
    labels_under
        Gives, for prices [finest] float32, the cheapest finest cluster of each point [m].
    base
        [finest] what a cluster costs in any case.
    caps
        One or more per level.
    prices
        Of the clusters of each cap, to start from.
    most_steps
        Of the ascent.

    Returns
    -------
    tuple or None
        The prices of each cap, their sum and the base [finest] float32, the labels [m]
        under it, and the largest excess of a load, in capacities; the best found in
        which no finest cluster is empty, None if each had an empty one.
    """
    best = None
    best_error = np.inf
    prices = list(prices)
    steps = [np.full(len(price), _PRICE_STEP) for price in prices]
    last_signs = [np.zeros(len(price)) for price in prices]
    for _ in range(most_steps):
        total = summed(base, caps, prices)
        labels = labels_under(total)
        errors = [
            np.bincount(cap.clusters[labels], cap.weights, len(cap.capacities)) / cap.capacities - 1
            for cap in caps
        ]
        error = max(0.0, *(float(of_cap.max()) for of_cap in errors))
        if error < best_error and np.bincount(labels, minlength=len(base)).all():
            best, best_error = (list(prices), total, labels, error), error
        if best_error <= TOLERANCE:
            break
        for at, of_cap in enumerate(errors):
            # Down again where there is room, and below none where a cluster is empty.
            lower = (of_cap < -TOLERANCE) & (prices[at] > 0) | (of_cap == -1)
            signs = np.where(of_cap > 0, 1.0, np.where(lower, -1.0, 0.0))
            steps[at] = steps[at] * np.choose(
                (signs * last_signs[at]).astype(int) + 1, [0.5, 1.0, 1.2]
            )
            prices[at] = prices[at] + steps[at] * signs
            last_signs[at] = signs
    return best


def fair_share(loads: np.ndarray, count: int) -> float:
    """Return the share of each of `count` clusters if what is heavier than one counts as one."""
    share = loads.sum() / count
    while (lower := np.minimum(loads, share).sum() / count) < share * (1 - 1e-6):
        share = lower
    return float(share)


def apportion(seats: int, votes: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Give out seats in proportion to votes by the largest remainder, within bounds.

    Parameters
    ----------
    seats
        low.sum() <= seats <= high.sum().
    votes
        [n] float, > 0 somewhere.
    low, high
        [n] int, low <= high.

    Returns
    -------
    np.ndarray
        [n] int, low <= result <= high, sum = seats.

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
    """Raise the prices of clusters heavier than they may be until what is over it goes elsewhere.

    Points that lose least go first. Nothing changes where the heaviest cluster would not get
    lighter, or a finest one would be empty.

    Parameters
    ----------
    points
        [m, d].
    sites
        [finest, d].
    prices
        [finest] float32.
    cap
        With the same capacity for all clusters of a level.

    Returns
    -------
    np.ndarray
        [finest] float32.
    """
    labels_under = PowerDiagram(points, sites, prices)
    size, limit = len(cap.capacities), cap.capacities.max()
    before = np.bincount(cap.clusters[labels_under(prices)], cap.weights, size)
    if before.max() <= limit:
        return prices
    raised = prices.copy()
    for cluster in np.flatnonzero(before > limit):
        inside = cap.clusters == cluster
        members = np.flatnonzero(inside[labels_under(raised)])
        scores = costs(points[members], sites) + raised
        raised[inside] += _surcharge(scores, inside, cap.weights[members], limit)
    after = labels_under(raised)
    lighter = np.bincount(cap.clusters[after], cap.weights, size).max() < before.max()
    return raised if lighter and np.bincount(after, minlength=len(prices)).all() else prices


def _surcharge(scores: np.ndarray, inside: np.ndarray, loads: np.ndarray, limit: float) -> float:
    """Return what to add to the prices of some finest clusters so that they carry the limit.

    `scores` [members, finest] and `loads` [members] are of the points that are there.
    """
    margins = scores[:, ~inside].min(1, initial=np.inf) - scores[:, inside].min(1)
    # The heaviest point stays: wherever it went would be overfull instead.
    margins = np.minimum(margins, margins[loads.argmax()])
    order = np.argsort(-margins, kind="stable")
    within = int(np.searchsorted(loads[order].cumsum(), limit, side="right"))
    kept = max(within, int((margins == margins.max()).sum()))
    return float(margins[order[kept - 1 : kept + 1]].mean()) if kept < len(margins) else 0.0
