"""The figures of each section of the report."""

from collections.abc import Callable
from functools import partial
from typing import Any

from transforms.evaluation.report.diff_figures import jaccard, winners
from transforms.evaluation.report.figure import Figure
from transforms.evaluation.report.finetuning_figures import finetuning, losses
from transforms.evaluation.report.policy_figures import (
    calibration,
    head_and_tail,
    label_frequency,
    paired,
    recall,
)
from transforms.evaluation.report.simulation_figures import growth, novelty_and_satisfaction

_SECTIONS: dict[str, list[Callable[[dict[str, Any]], Figure | None]]] = {
    "recall": [partial(recall, "macro_recall_at_5"), partial(recall, "recall_at_5")],
    "paired": [
        partial(paired, "paired_aligned", "macro_recall_at_5", "Exploration"),
        partial(paired, "paired_aligned", "recall_at_5", "Exploration"),
        partial(paired, "paired", "macro_recall_at_5", "The table alone"),
        partial(paired, "paired_pooled", "macro_recall_at_5", "The pooled table alone"),
    ],
    "labels": [label_frequency, head_and_tail],
    "calibration": [calibration],
    "finetuning": [finetuning, losses],
    "simulation": [
        novelty_and_satisfaction,
        partial(growth, "unique_clusters", "interests that a user engages with", False),
        partial(growth, "users_with_5_clusters", "users with at least 5 interests", True),
    ],
    "diff": [jaccard, winners],
}


def figures(metrics: dict[str, Any]) -> dict[str, list[Figure]]:
    """Return the figures of each section that has data."""
    found = {
        name: [figure for make in makers if (figure := make(metrics)) is not None]
        for name, makers in _SECTIONS.items()
    }
    return {name: made for name, made in found.items() if made}
