"""What the numbers of an evaluation say, in plain words."""

from collections.abc import Sequence
from typing import Any

from models.evaluation.policies.policy_names import (
    AFFINITY,
    AFFINITY_POOLED,
    OURS,
    POOLED,
    PRIOR,
    RETRIEVER,
    RETRIEVER_NOVEL,
    TABLE,
)

_NAMES = {
    TABLE: "Novelty table",
    PRIOR: "Novelty table with popularity",
    POOLED: "Novelty table, pooled",
    "popularity": "Popularity",
    "markov_1": "Markov, first order",
    "markov_2": "Markov, second order",
    "markov_lift": "Markov, lift",
    "naive_bayes": "Naive Bayes",
    "naive_bayes_lift": "Naive Bayes, lift",
    "pair_counts": "Pair counts",
    AFFINITY: "Affinity",
    AFFINITY_POOLED: "Affinity, pooled",
    "cluster_neighbours": "Nearest clusters",
    "llm_untuned": "LLM, untuned",
    "llm_undiversified": "LLM, not diversified",
    RETRIEVER: "Retriever alone",
    RETRIEVER_NOVEL: "Retriever, new interests only",
    "hierarchical_bandit": "Hierarchical bandit",
    "neural_linear_bandit": "Neural linear bandit",
    "random": "Random",
    "no_exploration": "No exploration",
}
_MACRO, _MICRO = "macro_recall_at_5", "recall_at_5"
# How ours is compared: (where the differences are, metric, who is compared, what is said of it).
_AS_ASKED = ("paired", _MACRO, TABLE, "averaged over interests")
_ALL_PAIRS = (
    "paired_pooled",
    _MACRO,
    POOLED,
    "averaged over interests, with --pair_choice=pooled,",
)
_WITH_PRIOR = ("paired", _MICRO, PRIOR, "over all transitions, with popularity added,")
Comparison = tuple[str, str, str, str]


def policy_name(name: str) -> str:
    """Return how a policy is called in the report."""
    return _NAMES.get(name, name)


def best_baseline(metrics: dict[str, Any], how: Comparison) -> str | None:
    """Return the baseline with the highest value of the metric that ours are compared with."""
    where, metric, _, _ = how
    compared = metrics.get(where, {}).get(metric, {})
    return max(
        (
            name
            for name in compared
            if name not in OURS and _value(metrics, name, metric) is not None
        ),
        key=lambda name: metrics["policies"][name][metric]["value"],
        default=None,
    )


def outcome(metrics: dict[str, Any], how: Comparison) -> str:
    """Say whether ours beats the best baseline: "better", "worse", "unclear" or "unknown".

    It is clear where the interval of the paired difference excludes 0.
    """
    best = best_baseline(metrics, how)
    if best is None:
        return "unknown"
    where, metric, _, _ = how
    difference = metrics[where][metric][best]
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "unclear"


def best_of_ours(metrics: dict[str, Any]) -> Comparison:
    """Return the pair choice with the higher recall, averaged over interests."""
    asked, pooled = (_value(metrics, name, _MACRO) for name in (TABLE, POOLED))
    return _ALL_PAIRS if pooled is not None and pooled > (asked or 0) else _AS_ASKED


def verdict(metrics: dict[str, Any]) -> tuple[str, str]:
    """Return (good, warn or bad) and the heading of the report."""
    helps = {
        "better": "Exploring with the LLM helps on this data",
        "unclear": "It is not clear that exploring with the LLM helps on this data",
        "worse": "Exploring with the LLM does not help on this data",
        "unknown": "There is no baseline to say whether exploring with the LLM helps",
    }
    found = outcome(metrics, best_of_ours(metrics))
    if not metrics["passed"]:
        return "bad", f"{helps[found]}, and the table failed its gates"
    return ("good" if found == "better" else "warn"), f"{helps[found]}; the table passed its gates"


def summary_sentences(metrics: dict[str, Any]) -> list[str]:
    """Return sentences about `report/metrics.json`, the three most important ones first.

    Whether the LLM helps, whether the table can be used, what users would see; then more.
    """
    sentences = [_helps(metrics), _usable(metrics), _seen(metrics)]
    sentences += (
        _pooled(metrics) + _affinity(metrics) + _head_and_tail(metrics) + _simulated(metrics)
    )
    sentences += _difference(metrics)
    users, transitions = metrics.get("users"), metrics.get("transitions")
    if users and transitions:
        sentences.append(
            f"All this is from {transitions:,} transitions of {users:,} held-out users to "
            f"{metrics['clusters']:,} interests; intervals are of 95%, from "
            f"{metrics['bootstrap_samples']:,} resamples of users."
        )
    return sentences


def _helps(metrics: dict[str, Any]) -> str:
    start = {
        "better": "Exploring with the LLM helps on this data",
        "unclear": "It is not clear whether exploring with the LLM helps on this data",
        "worse": "Exploring with the LLM does not help on this data",
        "unknown": "Nothing was compared with the novelty table",
    }[outcome(metrics, best_of_ours(metrics))]
    parts = [
        f"{how[-1]} {text}"
        for how in (best_of_ours(metrics), _WITH_PRIOR)
        if (text := _compared(metrics, how)) is not None
    ]
    if not parts:
        return f"{start}."
    meaning = "The next new interest is among the first five answers"
    return f"{start}. {meaning}: {'; '.join(parts)}."


def _compared(metrics: dict[str, Any], how: Comparison) -> str | None:
    where, metric, policy, _ = how
    ours = metrics["policies"].get(policy, {}).get(metric)
    if ours is None or ours["value"] is None:
        return None
    text = f"in {ours['value']:.1%} of cases ({ours['low']:.1%} to {ours['high']:.1%})"
    if (best := best_baseline(metrics, how)) is None:
        return text
    difference = metrics[where][metric][best]
    end = {
        "better": "better by more than chance",
        "worse": "worse by more than chance",
        "unclear": "a difference that chance could explain",
    }[outcome(metrics, how)]
    return (
        f"{text} against {_value(metrics, best, metric):.1%} of the best baseline "
        f"({policy_name(best)}), {end} ({100 * difference['low']:+.1f} to "
        f"{100 * difference['high']:+.1f} points)"
    )


def _usable(metrics: dict[str, Any]) -> str:
    gates = metrics["gates"]
    failed = [gate for gate in gates.values() if not gate["passed"]]
    if not failed:
        named = ", ".join(name.replace("_", " ") for name in gates)
        return f"The table can be used: it passed all {len(gates)} gates ({named})."
    reasons = " ".join(gate["why"] for gate in failed)
    return f"The table should not be used: it failed {len(failed)} of {len(gates)} gates. {reasons}"


def _seen(metrics: dict[str, Any]) -> str:
    ours = metrics["policies"].get(TABLE, {})
    parts = []
    if (coverage := ours.get("coverage")) is not None:
        parts.append(f"{coverage['value']:.0%} of all interests as somebody's next one")
    if (novelty := ours.get("novelty")) is not None and novelty["value"] is not None:
        parts.append(f"{novelty['value']:.0%} of items from interests new to the user")
    text = "Users would see " + " and ".join(parts) if parts else "What users see is not known"
    if (items := metrics.get("items")) is not None and (hit := items["hit_rate"]):
        popular = items["popularity_hit_rate"]
        text += (
            "; once the interest is right, the item that a user took is among the first "
            f"{items['top']} in {hit['value']:.0%} of cases (the most popular items of the "
            f"interest: {popular['value']:.0%})"
        )
    return text + "."


def _pooled(metrics: dict[str, Any]) -> list[str]:
    """Return what it brings to ask about all recent interests."""
    difference = metrics.get("paired_pooled", {}).get(_MACRO, {}).get(TABLE)
    if difference is None or difference["value"] is None:
        return []
    return [
        "Asked about all recent interests of a user in place of the newest two "
        f"(--pair_choice=pooled), the table finds {100 * difference['value']:+.1f} points of "
        f"macro recall@5 ({100 * difference['low']:+.1f} to {100 * difference['high']:+.1f})."
    ]


def _affinity(metrics: dict[str, Any]) -> list[str]:
    """Return what the LLM adds to the counts that it learned from."""
    difference = metrics.get("paired", {}).get(_MACRO, {}).get(AFFINITY)
    if difference is None or difference["value"] is None:
        return []
    return [
        "The fine-tuned model has learned from the counts of the policy Affinity too, so what the "
        f"LLM adds is the difference to it: {100 * difference['value']:+.1f} points of macro "
        f"recall@5 ({100 * difference['low']:+.1f} to {100 * difference['high']:+.1f})."
    ]


def _head_and_tail(metrics: dict[str, Any]) -> list[str]:
    ours, popular = (metrics["policies"].get(name, {}) for name in (TABLE, "popularity"))
    names = ("head_recall_at_5", "tail_recall_at_5")
    values = [policy.get(name, {}).get("value") for name in names for policy in (ours, popular)]
    if None in values:
        return []
    head, head_popular, tail, tail_popular = (f"{value:.0%}" for value in values)
    return [
        f"Among frequent interests the table finds {head} (popularity {head_popular}), among rare "
        f"ones {tail} (popularity {tail_popular})."
    ]


def _simulated(metrics: dict[str, Any]) -> list[str]:
    simulation = metrics.get("simulation")
    if simulation is None or TABLE not in simulation["policies"]:
        return []
    ends = {
        name: series["unique_clusters"][-1]["value"]
        for name, series in simulation["policies"].items()
    }
    others = {name: value for name, value in ends.items() if name not in OURS}
    text = (
        f"In the simulation of {simulation['days']} days users of the novelty table come to "
        f"engage with {ends[TABLE]:.1f} interests"
    )
    if others:
        best = max(others, key=lambda name: others[name])
        text += f", those of the best other policy ({policy_name(best)}) with {others[best]:.1f}"
    return [text + "; users are simulated, so take it as a direction, not as a forecast."]


def _difference(metrics: dict[str, Any]) -> list[str]:
    if (diff := metrics.get("diff")) is None:
        return []
    up, down = _first_names(diff["winners"])
    text = (
        f"Compared with the previous table, {diff['changed']:.0%} of {diff['pairs']:,} pairs have "
        f"another first answer and the first five share {diff['jaccard']['mean']:.0%}"
    )
    if up and down:
        text += f"; most pairs were won by “{up}” and lost by “{down}”"
    return [text + "."]


def _first_names(winners: Sequence[dict[str, Any]]) -> tuple[str | None, str | None]:
    """Return who gained and who lost the most pairs, if anybody."""
    if not winners:
        return None, None
    first, last = winners[0], winners[-1]
    return (
        first["description"] if first["won"] > first["lost"] else None,
        last["description"] if last["won"] < last["lost"] else None,
    )


def _value(metrics: dict[str, Any], policy: str, metric: str) -> float | None:
    return metrics["policies"].get(policy, {}).get(metric, {}).get("value")
