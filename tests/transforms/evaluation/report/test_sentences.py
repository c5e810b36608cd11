"""What the report says in words."""

from copy import deepcopy
from typing import Any

import pytest

from benchmarks.common.synthetic_report import synthetic_report
from transforms.evaluation.report.sentences import best_of_ours, outcome, summary_sentences, verdict

METRICS = synthetic_report(6).metrics


def with_difference(low: float, high: float) -> dict[str, Any]:
    """Return metrics in which ours differs so from every baseline."""
    metrics = deepcopy(METRICS)
    for compared in (*metrics["paired"].values(), *metrics["paired_pooled"].values()):
        for name in compared:
            compared[name] = {"value": (low + high) / 2, "low": low, "high": high}
    return metrics


@pytest.mark.parametrize(
    ("low", "high", "found", "words"),
    [
        (0.01, 0.02, "better", "Exploring with the LLM helps"),
        (-0.01, 0.02, "unclear", "It is not clear"),
        (0.0, 0.02, "unclear", "It is not clear"),
        (-0.02, -0.01, "worse", "Exploring with the LLM does not help"),
    ],
)
def test_the_first_sentence_is_honest_both_ways(
    low: float, high: float, found: str, words: str
) -> None:
    metrics = with_difference(low, high)
    assert outcome(metrics, best_of_ours(metrics)) == found
    assert summary_sentences(metrics)[0].startswith(words)
    assert verdict(metrics)[1].startswith(words)


def test_the_first_sentence_compares_with_the_best_baseline() -> None:
    metrics = deepcopy(METRICS)
    metrics["policies"]["pair_counts"]["macro_recall_at_5"]["value"] = 0.9
    assert "against 90.0% for the best baseline (Pair counts)" in summary_sentences(metrics)[0]


def test_the_second_sentence_names_what_failed() -> None:
    assert "can be used" in summary_sentences(METRICS)[1]
    metrics = deepcopy(METRICS)
    metrics["gates"]["recall"] |= {"passed": False, "why": "Too low."}
    metrics["passed"] = False
    second = summary_sentences(metrics)[1]
    assert "should not be used: it failed 1 of 5 gates. Too low." in second
    assert verdict(metrics)[0] == "bad"


def test_what_was_not_measured_is_not_mentioned() -> None:
    small = {"policies": {}, "gates": {}, "passed": True, "clusters": 3}
    said = summary_sentences(small)
    assert len(said) == 3
    assert said[0].startswith("No baseline shows")


@pytest.mark.parametrize("name", ["head_recall_at_5", "tail_recall_at_5", "novelty"])
@pytest.mark.parametrize("policy", ["novelty_table", "popularity"])
def test_what_is_undefined_is_not_mentioned(policy: str, name: str) -> None:
    metrics = deepcopy(METRICS)
    metrics["policies"][policy][name] = {"value": None, "low": None, "high": None}
    assert "None" not in " ".join(summary_sentences(metrics))


def test_simulated_users_are_called_so() -> None:
    assert any("users are simulated" in sentence for sentence in summary_sentences(METRICS))
    without = METRICS | {"simulation": None}
    assert not any("simulat" in sentence for sentence in summary_sentences(without))


def test_what_the_llm_adds_to_the_counts_it_learned_from_is_said() -> None:
    metrics = with_difference(0.01, 0.02)
    said = [sentence for sentence in summary_sentences(metrics) if "the LLM adds" in sentence]
    assert len(said) == 1
    assert "+1.5 points (+1.0 to +2.0) of macro recall@5" in said[0]
    del metrics["paired"]["macro_recall_at_5"]["affinity"]
    assert not any("the LLM adds" in sentence for sentence in summary_sentences(metrics))


@pytest.mark.parametrize(("pooled", "told"), [(0.5, True), (0.01, False)])
def test_the_first_sentence_is_of_the_better_pair_choice(pooled: float, told: bool) -> None:
    metrics = deepcopy(METRICS)
    metrics["policies"]["novelty_table_pooled"]["macro_recall_at_5"]["value"] = pooled
    assert ("--pair_choice=pooled" in summary_sentences(metrics)[0]) == told


def test_what_pooling_brings_is_said() -> None:
    said = [s for s in summary_sentences(with_difference(0.01, 0.02)) if s.startswith("Pooling")]
    assert len(said) == 1
    assert "macro recall@5 of the table by +1.5 points (+1.0 to +2.0)" in said[0]
    without = {name: value for name, value in METRICS.items() if name != "paired_pooled"}
    assert not any(sentence.startswith("Pooling") for sentence in summary_sentences(without))
