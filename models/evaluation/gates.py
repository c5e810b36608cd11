"""Gates: minimum quality of a novelty table before it is used."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.evaluation.policies.policy_names import COUNT_BASELINES, TABLE


@dataclass(frozen=True)
class GateThresholds:
    """The thresholds of the gates, shares from 0 to 1."""

    # At least this share of the kept weights' free generations are descriptions. Wang et al.
    # (RecSys 2024) wait for 0.9.
    match_rate: float = 0.9
    recall_at_1: float = 0.015  # at least
    beat_counts: bool = False  # the recall must also reach that of the best count baseline
    coverage: float = 0.25  # at least this share of the clusters is the first answer to some pair
    changed: float = 0.5  # at most this share of the pairs has a new first answer

    def __post_init__(self) -> None:
        for name in ("match_rate", "recall_at_1", "coverage", "changed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be a share from 0 to 1")


def kept_weights(history: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of a fine-tuning history whose weights were kept: the last, if any."""
    return history[-1] if history else None


def gates(metrics: dict[str, Any], thresholds: GateThresholds) -> dict[str, dict[str, Any]]:
    """Judge a table by `policies`, `finetuning` and `diff` of `report/metrics.json`.

    Returns by name: `value` (None if not measured, which fails), `threshold`, `passed` and `why`.
    The gate `changed` exists only if a previous table is compared.
    """
    kept = kept_weights(metrics.get("finetuning") or [])
    ours = metrics["policies"].get(TABLE, {})
    found = {
        "match_rate": _at_least(
            kept and kept["match_rate"],
            thresholds.match_rate,
            "of the free generations are exactly the description of a cluster",
            "fine-tune for more steps, or shorten the descriptions",
        ),
        "recall": _recall(metrics["policies"], thresholds),
        "coverage": _at_least(
            ours.get("coverage", {}).get("value"),
            thresholds.coverage,
            "of the clusters are the first answer to some pair of interests",
            "fine-tune on more evenly distributed labels (a smaller --examples_per_cluster)",
        ),
    }
    if metrics.get("diff") is not None:
        changed, most = metrics["diff"]["changed"], thresholds.changed
        found["changed"] = _judged(
            *(changed, most, changed <= most),
            f"{changed:.1%} of the pairs have a new first answer (must be at most {most:.1%})",
            "check the differences between the tables in the report first",
        )
    return found


def _recall(policies: dict[str, Any], thresholds: GateThresholds) -> dict[str, Any]:
    reached = {
        name: value
        for name in (TABLE, *COUNT_BASELINES)
        if _is_number(value := policies.get(name, {}).get("recall_at_1", {}).get("value"))
    }
    ours, least = reached.pop(TABLE, None), thresholds.recall_at_1
    what = "of held-out transitions lead to the first answer of the table"
    if thresholds.beat_counts and max(reached.values(), default=0) > least:
        best = max(reached, key=lambda name: reached[name])
        least = reached[best]
        what += f"; {best} reaches {least:.1%}"
    way_out = "fine-tune for longer or a larger model, or check the descriptions of the clusters"
    return _at_least(ours, least, what, way_out)


def _at_least(value: Any, threshold: float, what: str, way_out: str) -> dict[str, Any]:
    if not _is_number(value):
        why = f"It could not be measured how many {what}: {way_out}."
        return {"value": None, "threshold": threshold, "passed": False, "why": why}
    why = f"{value:.1%} {what} (must be at least {threshold:.1%})"
    return _judged(value, threshold, value >= threshold, why, way_out)


def _judged(value: float, threshold: float, passed: bool, why: str, way_out: str) -> dict[str, Any]:
    why += "." if passed else f": {way_out}."
    return {"value": value, "threshold": threshold, "passed": passed, "why": why}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
