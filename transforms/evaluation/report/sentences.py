"""The results of an evaluation in sentences."""

from typing import Any, NamedTuple

from models.evaluation.policies.policy_names import (
    AFFINITY,
    AFFINITY_POOLED,
    ALIGNED,
    ALIGNED_WITHOUT_TABLE,
    OURS,
    POOLED,
    PRIOR,
    RETRIEVER,
    RETRIEVER_NOVEL,
    TABLE,
)

_NAMES = {
    ALIGNED: "Exploration (aligned)",
    ALIGNED_WITHOUT_TABLE: "Exploration without the table",
    "aligned_without_user": "Exploration without the retriever",
    "aligned_without_recent": "Exploration without popularity",
    TABLE: "Novelty table",
    PRIOR: "Novelty table with popularity",
    POOLED: "Novelty table, pooled",
    "popularity": "Popularity",
    "markov_1": "Markov, first order",
    "markov_2": "Markov, second order",
    "naive_bayes": "Naive Bayes",
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
_OUTCOMES = {
    "better": "Exploration finds new interests better than every baseline on this data",
    "unclear": "Exploration and the best baseline do not differ significantly on this data",
    "worse": "A baseline finds new interests better than exploration on this data",
    "unknown": "No baseline was compared with exploration on this data",
}
_ENDS = {
    "better": "significantly better",
    "worse": "significantly worse",
    "unclear": "no significant difference",
}


class Comparison(NamedTuple):
    """A comparison of one of our policies with the baselines."""

    where: str  # the entry of metrics.json with the differences
    metric: str
    policy: str
    words: str


_ALIGNED = Comparison("paired_aligned", _MACRO, ALIGNED, "averaged over interests")
_BY_TRANSITION = Comparison("paired_aligned", _MICRO, ALIGNED, "over all transitions")


def policy_name(name: str) -> str:
    """Return the name of a policy in the report."""
    return _NAMES.get(name, name)


def best_baseline(metrics: dict[str, Any], how: Comparison) -> str | None:
    """Return the compared baseline with the highest value of the metric."""
    values = {
        name: value
        for name in metrics.get(how.where, {}).get(how.metric, {})
        if name not in OURS and (value := _value(metrics, name, how.metric)) is not None
    }
    return max(values, key=lambda name: values[name], default=None)


def outcome(metrics: dict[str, Any], how: Comparison) -> str:
    """Return whether ours beats the best baseline: "better", "worse", "unclear" or "unknown".

    It is clear if the interval of the paired difference excludes 0.
    """
    if (best := best_baseline(metrics, how)) is None:
        return "unknown"
    return _sign(metrics[how.where][how.metric][best])


def _sign(difference: dict[str, float]) -> str:
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "unclear"


def verdict(metrics: dict[str, Any]) -> tuple[str, str]:
    """Return "good", "warn" or "bad", and the heading of the report."""
    found = outcome(metrics, _ALIGNED)
    if not metrics["passed"]:
        return "bad", f"{_OUTCOMES[found]}, and the table failed its gates"
    kind = "good" if found == "better" else "warn"
    return kind, f"{_OUTCOMES[found]}; the table passed its gates"


def summary_sentences(metrics: dict[str, Any]) -> list[str]:
    """Return sentences about `report/metrics.json`, the most important ones first.

    These say how exploration compares with the best baseline, what the LLM adds, whether the gates
    passed, and what users see.
    """
    sentences = [_helps(metrics), *_llm_adds(metrics), _usable(metrics), _seen(metrics)]
    sentences += _weights(metrics) + _table_alone(metrics) + _affinity(metrics)
    sentences += _head_and_tail(metrics)
    sentences += _simulated(metrics) + _difference(metrics)
    users, transitions = metrics.get("users"), metrics.get("transitions")
    if users and transitions:
        sentences.append(
            f"The evaluation uses {transitions:,} transitions of {users:,} held-out users to "
            f"{metrics['clusters']:,} interests; the 95% intervals come from "
            f"{metrics['bootstrap_samples']:,} resamples of the users."
        )
    return sentences


def _helps(metrics: dict[str, Any]) -> str:
    text = f"{_OUTCOMES[outcome(metrics, _ALIGNED)]}."
    parts = [
        f"{how.words} {compared}"
        for how in (_ALIGNED, _BY_TRANSITION)
        if (compared := _compared(metrics, how)) is not None
    ]
    if not parts:
        return text
    return f"{text} The first five answers contain the next new interest: {'; '.join(parts)}."


def _compared(metrics: dict[str, Any], how: Comparison) -> str | None:
    ours = metrics["policies"].get(how.policy, {}).get(how.metric)
    if ours is None or ours["value"] is None:
        return None
    text = f"in {ours['value']:.1%} of cases ({ours['low']:.1%} to {ours['high']:.1%})"
    if (best := best_baseline(metrics, how)) is None:
        return text
    end = _ENDS[outcome(metrics, how)]
    low, high = _range(metrics[how.where][how.metric][best])
    return (
        f"{text}, against {_value(metrics, best, how.metric):.1%} for the best baseline "
        f"({policy_name(best)}): {end} ({low} to {high} points)"
    )


def _range(difference: dict[str, float]) -> tuple[str, str]:
    return f"{100 * difference['low']:+.1f}", f"{100 * difference['high']:+.1f}"


def _usable(metrics: dict[str, Any]) -> str:
    gates = metrics["gates"]
    failed = [gate for gate in gates.values() if not gate["passed"]]
    if not failed:
        named = ", ".join(name.replace("_", " ") for name in gates)
        return f"The table can be used: it passed all {len(gates)} gates ({named})."
    reasons = " ".join(gate["why"] for gate in failed)
    return f"The table should not be used: it failed {len(failed)} of {len(gates)} gates. {reasons}"


def _seen(metrics: dict[str, Any]) -> str:
    parts = []
    if (coverage := _value(metrics, TABLE, "coverage")) is not None:
        parts.append(f"{coverage:.0%} of all interests are the first answer to some pair")
    if (novelty := _value(metrics, TABLE, "novelty")) is not None:
        parts.append(f"{novelty:.0%} of the shown interests are new to the user")
    text = " and ".join(parts) or "What users see was not measured"
    if (items := metrics.get("items")) is not None and (hit := items["hit_rate"]):
        popular = items["popularity_hit_rate"]
        text += (
            f"; given the right interest, the first {items['top']} items contain the item of the "
            f"user in {hit['value']:.0%} of cases (the most popular items of the interest: "
            f"{popular['value']:.0%})"
        )
    return text + "."


def _llm_adds(metrics: dict[str, Any]) -> list[str]:
    """Return the gain from the novelty table: the difference to the same choice without it."""
    parts = []
    for metric, words in ((_MACRO, "averaged over interests"), (_MICRO, "over all transitions")):
        points = _points(metrics, "paired_aligned", ALIGNED_WITHOUT_TABLE, metric)
        if points is None:
            return []
        difference = metrics["paired_aligned"][metric][ALIGNED_WITHOUT_TABLE]
        parts.append(f"{points} {words}: {_ENDS[_sign(difference)]}")
    return [
        "What the LLM adds is the difference to the same choice without its novelty table: "
        f"recall@5 changes by {'; '.join(parts)}."
    ]


def _weights(metrics: dict[str, Any]) -> list[str]:
    weights = metrics.get("alignment", {}).get(ALIGNED)
    if not weights:
        return []
    names = {"table": "the novelty table", "user": "the retriever", "recent": "recent popularity"}
    listed = ", ".join(f"{value:.2f} for {names[part]}" for part, value in weights.items())
    return [
        "Held-out users decide how much each part of the choice counts. The weights of the "
        f"logarithms of their probabilities are {listed}."
    ]


def _table_alone(metrics: dict[str, Any]) -> list[str]:
    how = Comparison("paired", _MACRO, TABLE, "")
    if (compared := _compared(metrics, how)) is None:
        return []
    return [
        "The novelty table alone, asked about the two newest interests (--pair_choice=recent), "
        f"contains the next new interest, averaged over interests, {compared}."
    ]


def _affinity(metrics: dict[str, Any]) -> list[str]:
    """Return what the LLM adds to the counts that it learned from."""
    if (points := _points(metrics, "paired", AFFINITY)) is None:
        return []
    return [
        "The fine-tuned model also learned from the counts of the policy Affinity; compared with "
        f"Affinity, the LLM adds {points} of macro recall@5."
    ]


def _points(metrics: dict[str, Any], where: str, other: str, metric: str = _MACRO) -> str | None:
    """Return the difference of a recall to another policy, if it was measured."""
    difference = metrics.get(where, {}).get(metric, {}).get(other)
    if difference is None or difference["value"] is None:
        return None
    low, high = _range(difference)
    return f"{100 * difference['value']:+.1f} points ({low} to {high})"


def _head_and_tail(metrics: dict[str, Any]) -> list[str]:
    values = [
        _value(metrics, policy, name)
        for name in ("head_recall_at_5", "tail_recall_at_5")
        for policy in (TABLE, "popularity")
    ]
    if None in values:
        return []
    head, head_popular, tail, tail_popular = (f"{value:.0%}" for value in values)
    return [
        f"The recall@5 of the table is {head} for frequent interests (popularity {head_popular}) "
        f"and {tail} for rare interests (popularity {tail_popular})."
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
        f"In {simulation['days']} simulated days, users of the novelty table engage with "
        f"{ends[TABLE]:.1f} interests"
    )
    if others:
        best = max(others, key=lambda name: others[name])
        text += f", users of the best other policy ({policy_name(best)}) with {others[best]:.1f}"
    return [text + "; the users are simulated: the numbers compare policies, they are no forecast."]


def _difference(metrics: dict[str, Any]) -> list[str]:
    if (diff := metrics.get("diff")) is None:
        return []
    text = (
        f"Compared with the previous table, {diff['changed']:.0%} of {diff['pairs']:,} pairs have "
        f"a new first answer, and the mean Jaccard of the first five answers is "
        f"{diff['jaccard']['mean']:.0%}"
    )
    if winners := diff["winners"]:
        up, down = winners[0], winners[-1]
        if up["won"] > up["lost"] and down["won"] < down["lost"]:
            up, down = up["description"], down["description"]
            text += f"; “{up}” gained the most pairs, “{down}” lost the most"
    return [text + "."]


def _value(metrics: dict[str, Any], policy: str, metric: str) -> float | None:
    return metrics["policies"].get(policy, {}).get(metric, {}).get("value")
