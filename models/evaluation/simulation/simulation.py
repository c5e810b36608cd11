"""Simulates weeks of recommendation to users of a user model.

Each day a user is shown a slate. Most slots exploit: they show the clusters of most interest to the
user, in turn. A few slots explore: they show the policy's best clusters that the user does not
know. In each slot the user chooses between its cluster, with the weight q of
`UserModel.next_engagement` (divided among the slots of one cluster), and everything else, with a
fixed weight: the user engages with probability q / (q + outside) (Luce's choice axiom, 1959).
Engagements change the known clusters, the interest and the fatigue of the user, and so the slate of
the next day: the feedback loop.

All policies use common random numbers: a hash of (seed, user, day, cluster) decides whether a user
engages.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from models.common.hashing import mix
from models.evaluation.simulation.bandits import Learner, Scorer
from models.evaluation.simulation.user_model import UserModel, UserState
from models.evaluation.statistics.ranking import best

NO_EXPLORATION = "no_exploration"  # the control: every slot exploits
MANY = 5  # minimum of distinct clusters that users with many interests engage with
NOTHING = np.zeros(0, np.int32)
_COLUMNS = ("users", "shown", "engaged", "novel", "clusters", "many")


@dataclass(frozen=True)
class SimulationConfig:
    """The length and the size of a simulation."""

    users: int = 1000  # maximum of held-out users, drawn by hash; 0 simulates nothing
    days: int = 28
    seeds: int = 3  # replays with different random numbers
    slots: int = 10  # recommendations of a user each day
    exploring: int = 2  # slots that explore
    # Relative probability that the user engages outside the recommended slots; the weights of all
    # clusters sum to 1. A log cannot show it; a larger value slows all changes.
    outside: float = 0.25
    history: int = 100  # latest engagements of a user that count
    seed: int = 0  # of the drawn users and of the random numbers

    def __post_init__(self) -> None:
        for name in ("days", "seeds", "slots", "exploring", "history"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.users < 0:
            raise ValueError(f"users is {self.users}, it must not be negative")
        if self.exploring > self.slots:
            raise ValueError(f"exploring is {self.exploring}, more than the {self.slots} slots")
        if not 0 < self.outside < np.inf:
            raise ValueError(f"outside is {self.outside}, it must be positive and finite")


def slate_of(
    state: UserState,
    scores: NDArray[Any] | None,
    slots: int,
    exploring: int,
    blocked: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the shown clusters [n, slots] and which slots explore [n, slots].

    `scores` are [n, M], None for the control. Exploring slots are last; a slot without a new
    cluster exploits. Every user knows at least one cluster. Exploration never shows `blocked`
    clusters.
    """
    liked = best(np.where(state.known, state.interest, -np.inf), slots)
    many = np.minimum(state.known.sum(axis=1), slots)[:, None]
    clusters = np.take_along_axis(liked, np.arange(slots) % many, axis=1)
    explores = np.zeros(clusters.shape, bool)
    if scores is not None:
        barred = state.known.copy()
        barred[:, blocked] = True
        new = best(np.where(barred, -np.inf, scores), exploring)
        explores[:, -exploring:] = new >= 0
        clusters[:, -exploring:] = np.where(new >= 0, new, clusters[:, -exploring:])
    return clusters, explores


def engagement_chances(
    wanted: NDArray[np.float32], clusters: NDArray[np.int32], outside: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return how probably users engage with each slot, and the earlier slots of its cluster.

    `wanted` is [n, M] of `UserModel.next_engagement`, `clusters` and both results are [n, slots],
    `outside` is the weight of everything else.
    """
    before, after = np.zeros(clusters.shape, np.int64), np.zeros(clusters.shape, np.int64)
    for slot in range(1, clusters.shape[1]):
        same = clusters[:, :slot] == clusters[:, slot : slot + 1]
        before[:, slot] = same.sum(axis=1)
        after[:, :slot] += same
    weight = np.take_along_axis(wanted, clusters, axis=1) / (1.0 + before + after)
    return weight / (weight + outside), before


def replay(
    model: UserModel,
    start: UserState,
    users: NDArray[np.uint64],
    policy: Scorer | None,
    config: SimulationConfig,
    seed: int,
    blocked: NDArray[np.int32] = NOTHING,
) -> NDArray[np.int64]:
    """Simulate days of recommendation.

    Parameters
    ----------
    model, start
        The users; each knows at least one cluster. `start` is not changed.
    users
        [n] a hash of each user. Users do not affect each other, unless the policy learns or draws.
    policy
        Chooses what to explore; a `Learner` learns at the end of each day. None is the control.

    Returns
    -------
    [days, 6] sums over the users, which add up over parts of the users: users, recommendations,
    engagements, engagements with clusters new to the user, distinct clusters engaged with so far,
    users with at least MANY of those.
    """
    state = start.rows()
    engaged_with = np.zeros(state.known.shape, bool)
    keys = mix(users, seed)[:, None]
    totals = np.zeros((config.days, len(_COLUMNS)), np.int64)
    for day in range(config.days):
        c1, c2 = state.c1, state.c2
        scores = None if policy is None else policy.scores(c1, c2)
        clusters, explores = slate_of(state, scores, config.slots, config.exploring, blocked)
        wanted = model.next_engagement(state)
        chance, before = engagement_chances(wanted, clusters, config.outside)
        event = (np.uint64(day) << np.uint64(40)) | (before.astype(np.uint64) << np.uint64(32))
        draw = mix(keys ^ mix(event | clusters.astype(np.uint64), 1), 2)
        engaged = (draw >> np.uint64(11)) * 2.0**-53 < chance
        if isinstance(policy, Learner):
            row, slot = np.nonzero(explores)
            policy.learn(c1[row], c2[row], clusters[row, slot], engaged[row, slot])
        row, slot = np.nonzero(engaged)
        engaged_with[row, clusters[row, slot]] = True
        novel = int(np.sum(engaged & explores))
        state.engage(clusters, engaged, model.half_life)
        unique = engaged_with.sum(axis=1)
        many = int(np.sum(unique >= MANY))
        totals[day] = (len(users), clusters.size, len(row), novel, unique.sum(), many)
    return totals


def measures(totals: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return the measures of a replay, each [days].

    - novelty_rate: share of the day's engagements with clusters that the user did not know before;
    - satisfaction: share of the day's recommendations that the user engaged with;
    - unique_clusters: distinct clusters engaged with since the first day, mean over users;
    - users_with_5_clusters: share of users with at least MANY of those.

    >>> both = measures(np.array([[2, 20, 4, 1, 3, 0], [2, 20, 5, 2, 6, 1]]))
    >>> {name: values.tolist() for name, values in both.items()}  # doctest: +NORMALIZE_WHITESPACE
    {'novelty_rate': [0.25, 0.4], 'satisfaction': [0.2, 0.25], 'unique_clusters': [1.5, 3.0],
     'users_with_5_clusters': [0.0, 0.5]}
    """
    users, shown, engaged, novel, clusters, many = totals.T.astype(np.float64)
    return {
        "novelty_rate": novel / np.maximum(engaged, 1),
        "satisfaction": engaged / np.maximum(shown, 1),
        "unique_clusters": clusters / np.maximum(users, 1),
        "users_with_5_clusters": many / np.maximum(users, 1),
    }


def band(values: NDArray[np.float64], most: float) -> tuple[NDArray, NDArray, NDArray]:
    """Return the mean and the 95% interval (Student's t) over seeds of values [seeds, days].

    The interval is clipped to 0 and `most`; of one seed it is the mean. It measures the effect of
    the random numbers, not of the sample of users.
    """
    mean, seeds = values.mean(axis=0), len(values)
    if seeds == 1:
        return mean, mean, mean
    error = values.std(axis=0, ddof=1) / np.sqrt(seeds)
    half = stdtrit(seeds - 1, 0.975) * error
    return mean, np.maximum(mean - half, 0), np.minimum(mean + half, most)


def simulation_entry(totals: dict[str, dict[int, NDArray[np.int64]]]) -> dict[str, Any]:
    """Return `simulation` of metrics.json from sums of `replay`, by policy and seed."""
    policies: dict[str, Any] = {}
    for name, of_seed in sorted(totals.items()):
        by_seed = [measures(of_seed[seed]) for seed in sorted(of_seed)]
        policies[name] = {}
        for measure in by_seed[0]:
            most = np.inf if measure == "unique_clusters" else 1.0
            days = np.transpose(band(np.array([one[measure] for one in by_seed]), most))
            policies[name][measure] = [
                {"value": value, "low": low, "high": high} for value, low, high in days.tolist()
            ]
    of_first = next(iter(totals.values()))
    first = next(iter(of_first.values()))
    return {
        "days": len(first),
        "users": int(first[0, 0]),
        "seeds": len(of_first),
        "policies": policies,
    }
