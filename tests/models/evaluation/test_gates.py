"""When a novelty table may be used."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.gates import GateThresholds, gates, kept_weights

THRESHOLDS = GateThresholds()
COUNTS = {
    "popularity": 0.02,
    "markov_1": 0.06,
    "affinity_pooled": 0.065,
    "affinity": 0.07,
}  # macro recall@5


def difference(low: float | None) -> dict[str, float | None]:
    high = None if low is None else low + 0.02
    return {"value": None if low is None else low + 0.01, "low": low, "high": high}


def metrics(
    match_rate: float | None = 0.95,
    over_popularity: float | None = 0.001,
    over_counts: float | None = 0.001,
    coverage: float | None = 0.5,
) -> dict[str, Any]:
    """Return metrics of a table that is worse than every other baseline than those compared."""
    macro = dict.fromkeys([*COUNTS, "llm_untuned"], difference(-0.1))
    return {
        "policies": {name: {"macro_recall_at_5": {"value": v}} for name, v in COUNTS.items()}
        | {"llm_untuned": {"macro_recall_at_5": {"value": 0.9}}},
        "paired_aligned": {
            "macro_recall_at_5": macro | {"affinity": difference(over_counts)},
            "recall_at_5": {
                "popularity": difference(over_popularity),
                "affinity": difference(-0.1),
            },
        },
        "user_coverage": coverage,
        "finetuning": [
            {"step": 0, "valid_loss": 0.1, "match_rate": 0.0},
            {"step": 10, "valid_loss": 1.0, "match_rate": 1.0},
            {"step": 11, "valid_loss": 1.0, "match_rate": match_rate},
        ],
        "diff": None,
    }


def passed(metrics: dict[str, Any], thresholds: GateThresholds = THRESHOLDS) -> dict[str, bool]:
    return {name: gate["passed"] for name, gate in gates(metrics, thresholds).items()}


def test_a_good_table_passes_all_gates() -> None:
    names = ("match_rate", "recall", "popularity", "coverage")
    assert passed(metrics()) == dict.fromkeys(names, True)


@pytest.mark.parametrize(
    ("changed", "gate"),
    [
        ({"match_rate": 0.89}, "match_rate"),
        ({"over_counts": 0.0}, "recall"),
        ({"over_popularity": 0.0}, "popularity"),
        ({"coverage": 0.2}, "coverage"),
    ],
)
def test_what_is_below_its_threshold_fails_alone(changed: dict[str, float], gate: str) -> None:
    failed = [name for name, passed_it in passed(metrics(**changed)).items() if not passed_it]
    assert failed == [gate]


@pytest.mark.parametrize(
    ("changed", "gate"),
    [
        ({"match_rate": None}, "match_rate"),
        ({"match_rate": math.nan}, "match_rate"),
        ({"over_counts": None}, "recall"),
        ({"over_popularity": None}, "popularity"),
        ({"coverage": None}, "coverage"),
    ],
)
def test_what_could_not_be_measured_fails_with_no_value(
    changed: dict[str, float | None], gate: str
) -> None:
    found = gates(metrics(**changed), THRESHOLDS)[gate]
    assert (found["value"], found["passed"]) == (None, False)
    assert "could not be measured" in found["why"]


def test_nothing_measured_passes_nothing() -> None:
    assert not any(passed({"policies": {}}).values())


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_the_whole_interval_must_lie_above_the_threshold(low: float, least: float) -> None:
    thresholds = replace(THRESHOLDS, recall=least, popularity=least)
    found = passed(metrics(over_counts=low, over_popularity=low), thresholds)
    assert found["recall"] is found["popularity"] is (low > least)


@pytest.mark.parametrize("best", COUNTS)
def test_the_rival_is_the_best_policy_that_counts(best: str) -> None:
    found = metrics()
    found["policies"][best]["macro_recall_at_5"]["value"] = 0.2
    found["paired_aligned"]["macro_recall_at_5"] = dict.fromkeys(COUNTS, difference(0.1))
    found["paired_aligned"]["macro_recall_at_5"][best] = difference(-0.01)
    gate = gates(found, THRESHOLDS)["recall"]
    assert (gate["value"], gate["passed"]) == (-0.01, False)
    assert f"less that of {best} is +0.0 points, 95% interval -1.0 to +1.0" in gate["why"]


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_a_threshold_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"coverage is {share}, it must be a share from 0 to 1"):
        GateThresholds(coverage=share)


def test_a_threshold_that_is_no_difference_is_refused() -> None:
    with pytest.raises(ValueError, match="recall is -2, it must be a difference from -1 to 1"):
        GateThresholds(recall=-2)


def test_a_share_at_the_threshold_passes() -> None:
    assert all(passed(metrics(match_rate=0.9, coverage=0.25)).values())


def test_no_history_is_no_match_rate() -> None:
    assert not passed(metrics() | {"finetuning": []})["match_rate"]


@pytest.mark.parametrize(("share", "expected"), [(0.5, True), (0.51, False)])
def test_too_many_changed_pairs_fail(share: float, expected: bool) -> None:
    assert passed(metrics() | {"diff": {"changed": share}})["changed"] is expected


def test_every_failure_says_in_a_sentence_what_to_do() -> None:
    bad = metrics(0.1, -0.1, -0.1, 0.0) | {"diff": {"changed": 1.0}}
    for gate in gates(bad, THRESHOLDS).values():
        value, way_out = gate["why"].split(": ", 1)
        assert "must" in value
        assert way_out.endswith(".")


def test_the_weights_kept_are_those_of_the_last_row() -> None:
    assert kept_weights([]) is None
    assert kept_weights([{"step": 0}, {"step": 9}]) == {"step": 9}
