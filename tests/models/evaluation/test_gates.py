"""When a novelty table may be used."""

import math
from dataclasses import replace
from typing import Any

import pytest

from models.evaluation.gates import GateThresholds, gates, kept_weights

THRESHOLDS = GateThresholds()


def metrics(
    match_rate: float | None = 0.95,
    recall: float | None = 0.05,
    coverage: float | None = 0.5,
    counts: dict[str, float] | None = None,
) -> dict[str, Any]:
    ours = {"recall_at_1": {"value": recall}, "coverage": {"value": coverage}}
    others = {name: {"recall_at_1": {"value": value}} for name, value in (counts or {}).items()}
    return {
        "policies": {"novelty_table": ours, **others},
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
    assert passed(metrics()) == {"match_rate": True, "recall": True, "coverage": True}


@pytest.mark.parametrize(
    ("changed", "gate"),
    [
        ({"match_rate": 0.89}, "match_rate"),
        ({"recall": 0.014}, "recall"),
        ({"coverage": 0.2}, "coverage"),
    ],
)
def test_what_is_below_its_threshold_fails_alone(changed: dict[str, float], gate: str) -> None:
    failed = [name for name, passed_it in passed(metrics(**changed)).items() if not passed_it]
    assert failed == [gate]


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_a_threshold_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"coverage is {share}, it must be a share from 0 to 1"):
        GateThresholds(coverage=share)


def test_a_value_at_the_threshold_passes() -> None:
    assert all(passed(metrics(match_rate=0.9, recall=0.015, coverage=0.25)).values())


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_what_could_not_be_measured_fails_with_no_value(unknown: float | None) -> None:
    gate = gates(metrics(match_rate=unknown), THRESHOLDS)["match_rate"]
    assert (gate["value"], gate["passed"]) == (None, False)
    assert "could not be measured" in gate["why"]


def test_no_history_is_no_match_rate() -> None:
    assert not passed(metrics() | {"finetuning": []})["match_rate"]


def test_the_best_count_baseline_can_be_the_threshold() -> None:
    given_counts = metrics(recall=0.05, counts={"popularity": 0.02, "markov_1": 0.06})
    assert passed(given_counts)["recall"]
    gate = gates(given_counts, replace(THRESHOLDS, beat_counts=True))["recall"]
    assert (gate["threshold"], gate["passed"]) == (0.06, False)
    assert "markov_1 reaches 6.0%" in gate["why"]


def test_a_poor_baseline_does_not_lower_the_threshold() -> None:
    poor = metrics(recall=0.01, counts={"popularity": 0.001})
    assert gates(poor, replace(THRESHOLDS, beat_counts=True))["recall"]["threshold"] == 0.015


def test_another_language_model_is_no_count_baseline() -> None:
    better = metrics(recall=0.05, counts={"llm_untuned": 0.5})
    assert passed(better, replace(THRESHOLDS, beat_counts=True))["recall"]


@pytest.mark.parametrize(("share", "expected"), [(0.5, True), (0.51, False)])
def test_too_many_changed_pairs_fail(share: float, expected: bool) -> None:
    assert passed(metrics() | {"diff": {"changed": share}})["changed"] is expected


def test_every_failure_says_in_a_sentence_what_to_do() -> None:
    bad = metrics(match_rate=0.1, recall=0.0, coverage=0.0) | {"diff": {"changed": 1.0}}
    for gate in gates(bad, THRESHOLDS).values():
        value, way_out = gate["why"].split(": ", 1)
        assert "must be" in value
        assert way_out.endswith(".")


def test_the_weights_kept_are_those_of_the_last_row() -> None:
    assert kept_weights([]) is None
    assert kept_weights([{"step": 0}, {"step": 9}]) == {"step": 9}
