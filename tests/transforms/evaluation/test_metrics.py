"""What metrics.json says and what it keeps to itself."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.common.synthetic_report import synthetic_report
from models.evaluation.policies.policy_names import (
    ALIGNED,
    POOLED,
    PRIOR,
    RETRIEVER,
    RETRIEVER_NOVEL,
    TABLE,
)
from models.evaluation.statistics.calibration import reliability_sums
from models.evaluation.statistics.ranking_statistics import RankSums, rank_sums
from models.interests.novelty_table import NoveltyTable
from transforms.evaluation.metrics import Measured, suppress_small, user_coverage
from transforms.evaluation.score_items import ItemSums

M, USERS = 3, 12
# One transition a user, most of them to cluster 0; the second resample has half of the users.
NOVEL = np.array([0] * 9 + [1, 1, 2], np.int32)
WEIGHTS = np.stack([np.ones(USERS), np.arange(USERS) % 2], axis=1).astype(np.int32)
OF_ALL = (TABLE, PRIOR, POOLED, "popularity")
OF_DRAWN = (*OF_ALL, RETRIEVER, RETRIEVER_NOVEL, ALIGNED)
NAMES = ["tea", "salt", "bread"]


def sums(rank: int) -> RankSums:
    """Of a policy that has each user's cluster at one rank, and 0 in the first place."""
    shown, known = np.zeros((USERS, 1), np.int32), np.zeros((USERS, M), bool)
    return rank_sums(WEIGHTS, np.arange(USERS), NOVEL, np.full(USERS, rank), shown, known)


@pytest.fixture
def measured() -> Measured:
    return Measured(
        ranks={name: sums(rank) for rank, name in enumerate(reversed(OF_ALL), start=2)},
        wins={name: np.array([True, True, False]) for name in OF_ALL if name != POOLED},
        reliability={TABLE: reliability_sums(NOVEL[:, None], np.full((USERS, 1), 0.5), NOVEL)},
        drawn={name: sums(7) for name in OF_DRAWN},
        items=ItemSums(np.array([4, 2]), np.array([3, 1]), np.array([1, 1])),
        top=10,
        users=USERS,
        train=np.array([90, 12, 9]),
        prior_weight=0.5,
    )


def values(intervals: dict[str, dict[str, Any]]) -> dict[str, float]:
    return {name: found["value"] for name, found in intervals.items()}


def test_few_users_are_not_told() -> None:
    assert [suppress_small(users, 10) for users in (0, 9, 10, 11)] == [None, None, 10, 11]
    assert suppress_small(0, 0) == 0


def test_ours_are_measured_on_all_transitions_and_the_retriever_on_those_drawn(
    measured: Measured,
) -> None:
    policies = measured.metrics(NAMES, 1)["policies"]
    assert set(policies) == {*OF_ALL, *OF_DRAWN}
    recall = {name: found["recall_at_5"]["value"] for name, found in policies.items()}
    assert recall == {name: float(name not in (TABLE, *OF_DRAWN[4:])) for name in policies}
    assert policies[RETRIEVER]["transitions"] == USERS


def test_coverage_is_of_the_pairs_and_where_none_are_asked_of_the_transitions(
    measured: Measured,
) -> None:
    policies = measured.metrics(NAMES, 1)["policies"]
    assert policies[TABLE]["coverage"]["value"] == pytest.approx(2 / 3)
    assert policies[POOLED]["coverage"]["value"] == pytest.approx(1 / 3)


def test_each_is_compared_with_ours_on_the_same_transitions(measured: Measured) -> None:
    metrics = measured.metrics(NAMES, 1)
    others = {"popularity", RETRIEVER, RETRIEVER_NOVEL}
    for compared in metrics["paired"].values():
        assert set(compared) == others
    assert values(metrics["paired"]["macro_recall_at_5"]) == dict.fromkeys(others, 0) | {
        "popularity": -1
    }
    aligned = values(metrics["paired_aligned"]["recall_at_5"])
    assert aligned == dict.fromkeys(OF_DRAWN[:-1], 0)
    pooled = values(metrics["paired_pooled"]["recall_at_5"])
    assert pooled == {TABLE: 1, **dict.fromkeys((PRIOR, "popularity", *OF_DRAWN[4:]), 0)}


def test_coverage_of_users_is_of_the_pairs_that_they_hold() -> None:
    first = np.array([[1, 2, 1], [2, 0, 0], [-1, 0, 0]], np.int32)  # by (c1, c2)
    table = NoveltyTable(first[..., None], np.ones((M, M, 1), np.float32), NAMES)
    assert user_coverage(table, np.array([3, 1, 0, 0, 0, 0, 9, 0, 0])) == pytest.approx(2 / 3)
    assert user_coverage(table, np.ones(M * M)) == 1
    assert user_coverage(table, np.zeros(M * M)) == 0


def test_a_label_of_few_users_tells_nothing_of_them(measured: Measured) -> None:
    labels = measured.metrics(NAMES, 3)["labels"]
    assert [label["description"] for label in labels] == NAMES
    assert [label["test_transitions"] for label in labels] == [9, None, None]
    assert [label["recall_at_5"] for label in labels] == [
        {TABLE: 0, "popularity": 1},
        *[{TABLE: None, "popularity": None}] * 2,
    ]
    assert [label["train_users"] for label in measured.metrics(NAMES, 10)["labels"]] == [
        *(90, 12, None)
    ]


def test_items_are_shares_of_those_drawn(measured: Measured) -> None:
    items = measured.metrics(NAMES, 1)["items"]
    assert items["hit_rate"]["value"] == 0.75
    assert (items["top"], items["popularity_hit_rate"]["value"]) == (10, 0.25)
    assert replace(measured, items=None).metrics(NAMES, 1)["items"] is None


def test_made_up_evaluations_have_the_form_of_real_ones(measured: Measured) -> None:
    real, made_up = measured.metrics(NAMES, 1), synthetic_report(M).metrics
    assert real.keys() <= made_up.keys()
    for one in ("labels", "calibration", "paired", "paired_aligned", "paired_pooled", "items"):
        assert type(real[one]) is type(made_up[one]), one
    assert real["labels"][0].keys() == made_up["labels"][0].keys()
    for real_one, other in zip(
        *(all_["calibration"][TABLE]["bins"] for all_ in (real, made_up)), strict=False
    ):
        assert real_one.keys() == other.keys()
    assert real["items"].keys() == made_up["items"].keys()
    assert real["policies"][TABLE].keys() == made_up["policies"][TABLE].keys()
