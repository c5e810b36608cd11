"""Whether a novelty table is good enough to be used."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.evaluation.policies.policy_names import COUNT_BASELINES, TABLE


@dataclass(frozen=True)
class GateThresholds:
    """What a novelty table must reach.

    Attributes
    ----------
    match_rate
        Share of free generations of the weights kept that are a description, at least: a model
        that has not learnt the format is not asked what it has learnt about users. 0.9 is what
        Wang et al. (RecSys 2024) wait for.
    recall_at_1
        Of held-out transitions whose label is the table's first answer, at least.
    beat_counts
        Whether the recall must also be at least that of the best count baseline.
    coverage
        Share of the clusters that are the first answer for some pair, at least: a table that
        shows the same few interests to everyone explores nothing.
    changed
        Share of the pairs whose first answer is another than in the previous table, at most:
        users should not see another recommender overnight.
    """

    match_rate: float = 0.9
    recall_at_1: float = 0.015
    beat_counts: bool = False
    coverage: float = 0.25
    changed: float = 0.5

    def __post_init__(self) -> None:
        for name in ("match_rate", "recall_at_1", "coverage", "changed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be a share from 0 to 1")


def kept_weights(history: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of a fine-tuning history whose weights were kept: the last; None of none."""
    return history[-1] if history else None


def gates(metrics: dict[str, Any], thresholds: GateThresholds) -> dict[str, dict[str, Any]]:
    """Judge a table by its metrics.

    Parameters
    ----------
    metrics
        As in `report/metrics.json`; read are `policies`, `finetuning` and `diff`.

    Returns
    -------
    name -> `value` (None where it could not be measured: not passed), `threshold`, `passed`,
    `why`. The gate `changed` is there only where a previous table is compared.
    """
    kept = kept_weights(metrics.get("finetuning") or [])
    ours = metrics["policies"].get(TABLE, {})
    found = {
        "match_rate": _at_least(
            kept and kept["match_rate"],
            thresholds.match_rate,
            "of the model's free answers are a cluster's description, word for word",
            "fine-tune for more steps, or shorten the descriptions",
        ),
        "recall": _recall(metrics["policies"], thresholds),
        "coverage": _at_least(
            ours.get("coverage", {}).get("value"),
            thresholds.coverage,
            "of the clusters are the first answer for some pair of interests",
            "fine-tune on labels that are spread more evenly (a smaller --examples_per_cluster)",
        ),
    }
    if metrics.get("diff") is not None:
        found["changed"] = _changed(metrics["diff"]["changed"], thresholds.changed)
    return found


def _recall(policies: dict[str, Any], thresholds: GateThresholds) -> dict[str, Any]:
    least, best = thresholds.recall_at_1, None
    if thresholds.beat_counts:
        reached = {
            name: value
            for name in COUNT_BASELINES
            if _is_number(value := policies.get(name, {}).get("recall_at_1", {}).get("value"))
        }
        best = max(reached, key=lambda name: reached[name], default=None)
        if best is not None and reached[best] > least:
            least = reached[best]
        else:
            best = None
    return _at_least(
        policies.get(TABLE, {}).get("recall_at_1", {}).get("value"),
        least,
        "of held-out transitions are to the table's first answer"
        + (f"; {best} reaches {least:.1%}" if best is not None else ""),
        "fine-tune for longer or from a larger model, or look at the clusters' descriptions",
    )


def _at_least(value: Any, threshold: float, what: str, way_out: str) -> dict[str, Any]:
    if not _is_number(value):
        why = f"It could not be measured which share {what}; {way_out}."
        return {"value": None, "threshold": threshold, "passed": False, "why": why}
    passed = value >= threshold
    why = f"{value:.1%} {what} (at least {threshold:.1%} is asked for)"
    why += "." if passed else f": {way_out}."
    return {"value": value, "threshold": threshold, "passed": passed, "why": why}


def _changed(value: float, threshold: float) -> dict[str, Any]:
    passed = value <= threshold
    why = (
        f"{value:.1%} of the pairs have another first answer than before (at most {threshold:.1%} "
        "is asked for)"
    )
    why += "." if passed else ": look at the difference of the tables in the report first."
    return {"value": value, "threshold": threshold, "passed": passed, "why": why}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
