"""From sums over test transitions to what `report/metrics.json` says."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from models.evaluation.policies.policy_names import OURS, POOLED, PRIOR, TABLE
from models.evaluation.statistics.bootstrap import exactly, interval
from models.evaluation.statistics.calibration import ReliabilitySums
from models.evaluation.statistics.ranking import head
from models.evaluation.statistics.ranking_statistics import RankSums
from transforms.evaluation.score_items import ItemSums

_BY_LABEL = (TABLE, "popularity")  # policies whose recall is told for each label


@dataclass(frozen=True, eq=False)
class Measured:
    """What was added up over all test users.

    Attributes
    ----------
    ranks
        Of each policy.
    wins
        Of each policy of pairs, [M] which clusters rank first for some pair; coverage of POOLED is
        of the clusters that rank first for some transition.
    reliability
        Of each novelty table.
    drawn
        Of the retriever and ours on transitions that were drawn; empty without any.
    items, top
        Of the retriever's first `top` items on them; None without any.
    users
        With test transitions.
    train
        [M] transitions of training users to each cluster.
    prior_weight
        Of popularity in the policy PRIOR.
    """

    ranks: dict[str, RankSums]
    wins: dict[str, np.ndarray]
    reliability: dict[str, ReliabilitySums]
    drawn: dict[str, RankSums]
    items: ItemSums | None
    top: int
    users: int
    train: np.ndarray
    prior_weight: float

    def metrics(self, descriptions: list[str], min_users: int) -> dict[str, Any]:
        """Return the part of metrics.json that is about policies.

        Parameters
        ----------
        descriptions
            [M] of the clusters.
        min_users
            Counts of fewer users are None.
        """
        is_head = head(self.train)
        samples = {name: sums.metrics(is_head) for name, sums in sorted(self.ranks.items())}
        policies: dict[str, dict[str, Any]] = {
            name: {metric: interval(values) for metric, values in found.items()}
            | {"coverage": _covered(self.wins.get(name, self.ranks[name].winners[:, 0] > 0))}
            for name, found in samples.items()
        }
        drawn = {name: sums.metrics(is_head) for name, sums in sorted(self.drawn.items())}
        for name, found in drawn.items():
            if name not in samples:
                policies[name] = _of_drawn(self.drawn[name], found)
        return {
            "users": suppress_small(self.users, min_users),
            "transitions": int(self.ranks[TABLE].labels[:, 0].sum()),
            "policies": policies,
            "paired": {
                metric: {
                    name: interval(compared[ours][metric] - compared[name][metric])
                    for compared in (samples, drawn)
                    for name in compared
                    if name not in OURS
                }
                for metric, ours in (("macro_recall_at_5", TABLE), ("recall_at_5", PRIOR))
            },
            "paired_pooled": {
                metric: {
                    name: interval(compared[POOLED][metric] - compared[name][metric])
                    for compared in (drawn, samples)
                    for name in compared
                    if name != POOLED
                }
                for metric in ("macro_recall_at_5", "recall_at_5")
            },
            "prior_weight": self.prior_weight,
            "items": self.items and _of_items(self.items, self.top),
            "calibration": {
                name: {
                    "bins": sums.bins(min_users),
                    "expected_calibration_error": round(sums.expected_calibration_error(), 6),
                }
                for name, sums in sorted(self.reliability.items())
            },
            "labels": self._labels(descriptions, min_users),
        }

    def _labels(self, descriptions: list[str], min_users: int) -> list[dict[str, Any]]:
        """Tell a recall only where at least `min_users` users are asked for; few may be found."""
        asked = self.ranks[TABLE].labels[:, 0]
        labels = []
        for cluster, description in enumerate(descriptions):
            # A user makes one transition to a cluster at most: transitions count users.
            shown = suppress_small(int(asked[cluster]), min_users)
            recall = {
                name: round(int(self.ranks[name].hits[cluster, 0]) / shown, 6) if shown else None
                for name in _BY_LABEL
            }
            labels.append(
                {
                    "cluster_id": cluster,
                    "description": description,
                    "train_users": suppress_small(int(self.train[cluster]), min_users),
                    "test_transitions": shown,
                    "recall_at_5": recall,
                }
            )
        return labels


def suppress_small(users: int, least: int) -> int | None:
    """Return a number of users; None for one below the least that is told."""
    return users if users >= least else None


def _of_drawn(sums: RankSums, samples: dict[str, np.ndarray]) -> dict[str, Any]:
    """Tell of a policy without a table of pairs: its coverage is of what it was asked."""
    found = {metric: interval(values) for metric, values in samples.items()}
    covered = _covered(sums.winners[:, 0] > 0)
    return {**found, "coverage": covered, "transitions": int(sums.labels[:, 0].sum())}


def _covered(wins: np.ndarray) -> dict[str, float]:
    return exactly(float(np.mean(wins)))


def _of_items(items: ItemSums, top: int) -> dict[str, Any]:
    with np.errstate(invalid="ignore"):
        return {
            "top": top,
            "hit_rate": interval(items.hits / items.examples),
            "popularity_hit_rate": interval(items.popular_hits / items.examples),
            "examples": int(items.examples[0]),
        }


def nan_to_none(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table with None for what JSON can't say."""
    return [
        {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        for row in table.to_pylist()
    ]
