"""What the report says in words."""

from copy import deepcopy
from typing import Any

import pytest

from benchmarks.common.synthetic_report import synthetic_report
from transforms.evaluation.report.sentences import _ALIGNED, outcome, summary_sentences, verdict

METRICS = synthetic_report(6).metrics


def with_difference(low: float, high: float) -> dict[str, Any]:
    """Return metrics in which ours differs so from every baseline."""
    metrics = deepcopy(METRICS)
    for compared in (*metrics["paired"].values(), *metrics["paired_aligned"].values()):
        for name in compared:
            compared[name] = {"value": (low + high) / 2, "low": low, "high": high}
    return metrics


@pytest.mark.parametrize(
    ("low", "high", "found", "words"),
    [
        (0.01, 0.02, "better", "Exploration finds new interests better than every baseline"),
        (-0.01, 0.02, "unclear", "Exploration and the best baseline do not differ significantly"),
        (0.0, 0.02, "unclear", "Exploration and the best baseline do not differ significantly"),
        (-0.02, -0.01, "worse", "A baseline finds new interests better than exploration"),
    ],
)
def test_the_first_sentence_is_honest_both_ways(
    low: float, high: float, found: str, words: str
) -> None:
    metrics = with_difference(low, high)
    assert outcome(metrics, _ALIGNED) == found
    assert summary_sentences(metrics)[0].startswith(words)
    assert verdict(metrics)[1].startswith(words)


def test_the_first_sentence_compares_with_the_best_baseline() -> None:
    metrics = deepcopy(METRICS)
    metrics["policies"]["pair_counts"]["macro_recall_at_5"]["value"] = 0.9
    assert "against 90.0% for the best baseline (Pair counts)" in summary_sentences(metrics)[0]


def test_the_second_sentence_says_what_the_llm_adds() -> None:
    second = summary_sentences(with_difference(0.01, 0.02))[1]
    assert second.startswith("What the LLM adds")
    assert "+1.5 points (+1.0 to +2.0) averaged over interests: significantly better" in second
    assert "no significant difference" in summary_sentences(with_difference(-0.01, 0.01))[1]


def test_the_third_sentence_names_what_failed() -> None:
    assert "can be used" in summary_sentences(METRICS)[2]
    metrics = deepcopy(METRICS)
    metrics["gates"]["recall"] |= {"passed": False, "why": "Too low."}
    metrics["passed"] = False
    third = summary_sentences(metrics)[2]
    assert "should not be used: it failed 1 of 5 gates. Too low." in third
    assert verdict(metrics)[0] == "bad"


def test_what_was_not_measured_is_not_mentioned() -> None:
    small = {"policies": {}, "gates": {}, "passed": True, "clusters": 3}
    said = summary_sentences(small)
    assert len(said) == 3
    assert said[0].startswith("No baseline was compared")


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
    said = [
        sentence for sentence in summary_sentences(metrics) if "counts of the policy" in sentence
    ]
    assert len(said) == 1
    assert "+1.5 points (+1.0 to +2.0) of macro recall@5" in said[0]
    del metrics["paired"]["macro_recall_at_5"]["affinity"]
    assert not any("counts of the policy" in sentence for sentence in summary_sentences(metrics))


def test_the_weights_of_the_parts_are_said() -> None:
    said = [s for s in summary_sentences(METRICS) if s.startswith("Held-out users decide")]
    assert len(said) == 1
    assert "0.50 for the novelty table, 0.50 for the retriever" in said[0]


def test_the_table_alone_is_compared_too() -> None:
    said = [s for s in summary_sentences(METRICS) if s.startswith("The novelty table alone")]
    assert len(said) == 1
    assert "for the best baseline" in said[0]
