"""The trainer's log in trainer_state.json of each checkpoint.

History, best step and the end of training are functions of the log, so that they survive a
restart.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.common.checkpoints import drop, whole_checkpoints


@dataclass(frozen=True)
class HistoryRow:
    """The measurements after a step; NaN is not measured.

    Losses are the mean negative log-likelihood of a completion token, end token included, in nats.
    Recall is the share of prompts whose label is among the k most probable clusters of the
    constrained distribution.
    """

    step: int  # 0 is before training; the last row, one step after training, is the kept weights
    loss: float
    valid_loss: float
    match_rate: float  # share of free greedy completions that equal some description
    recall_at_1: float
    recall_at_10: float


@dataclass(frozen=True)
class Resumed:
    """The last usable checkpoint of a run."""

    checkpoint: Path | None  # None: training begins
    log: list[dict[str, Any]]  # of the trainer, up to the checkpoint


def last_checkpoint(run: Path) -> Resumed:
    """Return the last whole checkpoint in a folder whose best one is whole too; drop later ones."""
    found = whole_checkpoints(run)
    for step in sorted(found, reverse=True):
        state = json.loads((found[step] / "trainer_state.json").read_text())
        log: list[dict[str, Any]] = state["log_history"]
        if best_step(log) in found:
            return Resumed(found[step], log)
        drop(found[step])
    return Resumed(None, [])


def _valid_losses(log: Sequence[dict[str, Any]]) -> list[tuple[float, int]]:
    """Return the validation loss and step of every evaluation after training began.

    A loss that is not a number is infinite: NaN would be the least of all by its place.
    """
    return [
        (math.inf if math.isnan(row["eval_loss"]) else row["eval_loss"], row["step"])
        for row in log
        if "eval_loss" in row and row["step"]
    ]


def best_step(log: Sequence[dict[str, Any]]) -> int:
    """Return the step with the least validation loss; ValueError if none is finite."""
    loss, step = min(_valid_losses(log))
    if not math.isfinite(loss):
        raise ValueError(
            f"the validation loss of step {step} is not finite: the learning rate is too high; "
            "give a lower one"
        )
    return step


def is_over(log: Sequence[dict[str, Any]], max_steps: int, patience: int) -> bool:
    """Return whether all steps are done, or `patience` evaluations in a row were no better."""
    losses = _valid_losses(log)
    if not losses:
        return False
    return losses[-1][1] >= max_steps or (len(losses) - 1 - losses.index(min(losses)) >= patience)


def history_of(log: Sequence[dict[str, Any]]) -> list[HistoryRow]:
    """Return the measurements by step."""
    by_step: dict[int, dict[str, float]] = {}
    for entry in log:
        by_step.setdefault(entry["step"], {}).update(entry)
    names = {"loss": "loss", "valid_loss": "eval_loss"} | {
        name: name for name in ("match_rate", "recall_at_1", "recall_at_10")
    }
    return [
        HistoryRow(step, **{name: entry.get(key, math.nan) for name, key in names.items()})
        for step, entry in sorted(by_step.items())
    ]
