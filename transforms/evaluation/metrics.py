"""Computes `report/metrics.json` from sums over test transitions."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from models.evaluation.policies.policy_names import ALIGNED, OURS, POOLED, PRIOR, TABLE
from models.evaluation.statistics.bootstrap import interval
from models.evaluation.statistics.calibration import ReliabilitySums
from models.evaluation.statistics.ranking import head
from models.evaluation.statistics.ranking_statistics import RankSums
from models.interests.novelty_table import NoveltyTable
from transforms.evaluation.score_items import ItemSums

_RECALLS = ("macro_recall_at_5", "recall_at_5")
_BY_LABEL = (TABLE, "popularity")  # policies with a recall of each label
_Samples = dict[str, dict[str, np.ndarray]]  # [1 + B] by policy and metric


@dataclass(frozen=True, eq=False)
class Measured:
    """All sums over test users."""

    ranks: dict[str, RankSums]  # by policy
    # by policy of pairs: [M] whether a cluster ranks first for some pair
    wins: dict[str, np.ndarray]
    reliability: dict[str, ReliabilitySums]  # by novelty table
    drawn: dict[str, RankSums]  # by policy, on the sampled test transitions; may be empty
    items: ItemSums | None  # of the retriever on the sampled test transitions, if any
    top: int  # items of the retriever that count
    users: int  # users with test transitions
    train: np.ndarray  # [M] transitions of training users to each cluster
    prior_weight: float  # weight of popularity in PRIOR

    def metrics(self, descriptions: list[str], min_users: int) -> dict[str, Any]:
        """Return the policies' part of metrics.json.

        `descriptions` are those of the M clusters. Counts of fewer than `min_users` users are None.
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
        both = (drawn, samples)
        return {
            "users": suppress_small(self.users, min_users),
            "transitions": int(self.ranks[TABLE].labels[:, 0].sum()),
            "policies": policies,
            "paired": {
                metric: _differences(both, metric, ours, OURS)
                for metric, ours in (("macro_recall_at_5", TABLE), ("recall_at_5", PRIOR))
            },
            "paired_pooled": {
                metric: _differences(both, metric, POOLED, (POOLED,)) for metric in _RECALLS
            },
            "paired_aligned": {
                metric: _differences(both, metric, ALIGNED, (ALIGNED,)) for metric in _RECALLS
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
        """Return each label with its recall, which is None below `min_users` transitions."""
        asked = self.ranks[TABLE].labels[:, 0]
        labels = []
        for cluster, description in enumerate(descriptions):
            # A user has at most one transition to a cluster: transitions count users.
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
    """Return a number of users; None if it is below `least`."""
    return users if users >= least else None


def _differences(
    compared: tuple[_Samples, ...], metric: str, ours: str, left_out: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """Return `ours` minus each other policy on the same transitions, the last ones with both."""
    return {
        name: interval(samples[ours][metric] - values[metric])
        for samples in compared
        if ours in samples
        for name, values in samples.items()
        if name not in left_out
    }


def user_coverage(table: NoveltyTable, pair_users: np.ndarray) -> float:
    """Return the share of the M clusters that are the first answer to a pair that a user holds.

    `pair_users` [M * M] counts the users by `pair_index`.
    """
    first = table.novel[..., 0].ravel()[pair_users > 0]
    return len(np.unique(first[first >= 0])) / table.size


def _of_drawn(sums: RankSums, samples: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the entry of a policy without scores of pairs; its coverage is over transitions."""
    found = {metric: interval(values) for metric, values in samples.items()}
    covered = _covered(sums.winners[:, 0] > 0)
    return {**found, "coverage": covered, "transitions": int(sums.labels[:, 0].sum())}


def _covered(wins: np.ndarray) -> dict[str, float]:
    return interval(np.mean(wins, keepdims=True))  # no resamples: low and high are the value


def _of_items(items: ItemSums, top: int) -> dict[str, Any]:
    with np.errstate(invalid="ignore"):
        return {
            "top": top,
            "hit_rate": interval(items.hits / items.examples),
            "popularity_hit_rate": interval(items.popular_hits / items.examples),
            "examples": int(items.examples[0]),
        }


def nan_to_none(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table with None for values that JSON cannot express."""
    return [
        {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        for row in table.to_pylist()
    ]
