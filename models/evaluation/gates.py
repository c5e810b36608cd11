"""Gates: minimum quality of a novelty table before it is used."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.evaluation.policies.policy_names import AFFINITY, AFFINITY_POOLED, COUNT_BASELINES

_SHARES, _DIFFERENCES = ("match_rate", "coverage", "changed"), ("recall", "popularity")


@dataclass(frozen=True)
class GateThresholds:
    """The thresholds of the gates: shares from 0 to 1, differences of shares from -1 to 1."""

    # At least this share of the kept weights' free generations are descriptions. Wang et al.
    # (RecSys 2024) wait for 0.9.
    match_rate: float = 0.9
    # The 95% intervals of these paired differences lie above: a threshold of 0 asks the same with 3
    # clusters and with 761.
    recall: float = 0.0  # macro recall@5 of ALIGNED less that of the best policy that counts
    popularity: float = 0.0  # recall@5 of ALIGNED less that of popularity
    # At least this share of the clusters is the first answer to some pair that a user holds.
    coverage: float = 0.25
    changed: float = 0.5  # at most this share of the pairs has a new first answer

    def __post_init__(self) -> None:
        for names, least, what in ((_SHARES, 0, "share"), (_DIFFERENCES, -1, "difference")):
            for name in names:
                if not least <= getattr(self, name) <= 1:
                    raise ValueError(
                        f"{name} is {getattr(self, name)}, it must be a {what} from {least} to 1"
                    )


def kept_weights(history: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of a fine-tuning history whose weights were kept: the last, if any."""
    return history[-1] if history else None


def gates(metrics: dict[str, Any], thresholds: GateThresholds) -> dict[str, dict[str, Any]]:
    """Judge a table, and the choice that is made with it, by `report/metrics.json`.

    Reads `policies`, `paired_aligned`, `user_coverage`, `finetuning` and `diff`. Returns by
    name: `value` (None if not measured, which fails), `threshold`, `passed`, `bound` and `why`. The
    gate `changed` exists only if a previous table is compared.
    """
    kept = kept_weights(metrics.get("finetuning") or [])
    found = {
        "match_rate": _at_least(
            kept and kept["match_rate"],
            thresholds.match_rate,
            "of the free generations are exactly the description of a cluster",
            "fine-tune for more steps, or shorten the descriptions",
        ),
        "recall": _better(
            metrics.get("paired_aligned", {}).get("macro_recall_at_5", {}),
            _best_counts(metrics["policies"]),
            "macro recall@5",
            thresholds.recall,
        ),
        "popularity": _better(
            metrics.get("paired_aligned", {}).get("recall_at_5", {}),
            "popularity",
            "recall@5",
            thresholds.popularity,
        ),
        "coverage": _at_least(
            metrics.get("user_coverage"),
            thresholds.coverage,
            "of the clusters are the first answer to some pair of interests that a user has",
            "fine-tune on more evenly distributed labels (a smaller --examples_per_cluster)",
        ),
    }
    if metrics.get("diff") is not None:
        changed, most = metrics["diff"]["changed"], thresholds.changed
        found["changed"] = _judged(
            *(changed, most, changed <= most, "at most"),
            f"{changed:.1%} of the pairs have a new first answer (must be at most {most:.1%})",
            "check the differences between the tables in the report first",
        )
    return found


def _best_counts(policies: dict[str, Any]) -> str | None:
    """Return the policy that counts with the highest macro recall@5."""
    values = {
        name: value
        for name in (*COUNT_BASELINES, AFFINITY, AFFINITY_POOLED)
        if _is_number(value := policies.get(name, {}).get("macro_recall_at_5", {}).get("value"))
    }
    return max(values, key=lambda name: values[name], default=None)


def _better(
    differences: dict[str, dict[str, Any]], baseline: str | None, metric: str, threshold: float
) -> dict[str, Any]:
    """Judge the lower end of the interval of our difference to a baseline."""
    way_out = "use the baseline, evaluate on more users, or fine-tune for longer or a larger model"
    what = f"{metric} of the aligned choice is better than that of {baseline or 'counts'}"
    found = differences.get(baseline or "", {})
    low: Any = found.get("low")
    if not _is_number(low):
        return _unmeasured(threshold, "more than", f"by how much {what}", way_out)
    why = (
        f"{metric} of the aligned choice less that of {baseline} is {100 * found['value']:+.1f} "
        f"points, 95% interval {100 * low:+.1f} to {100 * found['high']:+.1f} "
        f"(must lie above {100 * threshold:+.1f})"
    )
    return _judged(low, threshold, low > threshold, "more than", why, way_out)


def _at_least(value: Any, threshold: float, what: str, way_out: str) -> dict[str, Any]:
    if not _is_number(value):
        return _unmeasured(threshold, "at least", f"how many {what}", way_out)
    why = f"{value:.1%} {what} (must be at least {threshold:.1%})"
    return _judged(value, threshold, value >= threshold, "at least", why, way_out)


def _unmeasured(threshold: float, bound: str, what: str, way_out: str) -> dict[str, Any]:
    why = f"It could not be measured {what}: {way_out}."
    return {"value": None, "threshold": threshold, "passed": False, "bound": bound, "why": why}


def _judged(
    value: float, threshold: float, passed: bool, bound: str, why: str, way_out: str
) -> dict[str, Any]:
    why = why[0].upper() + why[1:] + ("." if passed else f": {way_out}.")
    return {"value": value, "threshold": threshold, "passed": passed, "bound": bound, "why": why}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
