"""The trainer's log, a list of dicts, is in every checkpoint's trainer_state.json.

History, the best step and the end of training are all functions of it, so that they survive a
restart.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class HistoryRow:
    """What was measured after a step; NaN is not measured.

    Attributes
    ----------
    step : int
        0 is before training. The last row is of the weights that are kept, a step after training.
    loss, valid_loss : float
        Mean negative log-likelihood a completion token (end token included), in nats.
    match_rate : float
        Share of free greedy completions that equal some description exactly.
    recall_at_1, recall_at_10 : float
        Share of prompts whose label is among the 1 or 10 most probable clusters of the
        constrained distribution.
    """

    step: int
    loss: float
    valid_loss: float
    match_rate: float
    recall_at_1: float
    recall_at_10: float


def _state(checkpoint: Path) -> dict[str, Any] | None:
    """Return the trainer's state, which is written last: None for a half-written checkpoint."""
    try:
        state: dict[str, Any] = json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return None
    return state


def last_checkpoint(run: Path) -> Path | None:
    """Return the last whole checkpoint in a folder."""
    found = [folder for folder in run.glob("checkpoint-*") if _state(folder) is not None]
    return max(found, key=lambda folder: int(folder.name.removeprefix("checkpoint-")), default=None)


def read_log(run: Path) -> list[dict[str, Any]]:
    """Return the log of the last checkpoint in a folder, empty if there is none."""
    last = last_checkpoint(run)
    state = None if last is None else _state(last)
    return [] if state is None else state["log_history"]


def _valid_losses(log: Sequence[dict[str, Any]]) -> list[tuple[float, int]]:
    """Return the validation loss and step of every evaluation after training began."""
    return [(row["eval_loss"], row["step"]) for row in log if "eval_loss" in row and row["step"]]


def best_step(log: Sequence[dict[str, Any]]) -> int:
    """Return the step with the least validation loss."""
    return min(_valid_losses(log))[1]


def is_over(log: Sequence[dict[str, Any]], max_steps: int, patience: int) -> bool:
    """Tell whether all steps are done, or the last `patience` evaluations were no better."""
    losses = _valid_losses(log)
    if not losses:
        return False
    return losses[-1][1] >= max_steps or (len(losses) - 1 - losses.index(min(losses)) >= patience)


def history_of(log: Sequence[dict[str, Any]]) -> list[HistoryRow]:
    """Return what was measured, by step."""
    by_step: dict[int, dict[str, float]] = {}
    for entry in log:
        by_step.setdefault(entry["step"], {}).update(entry)
    return [
        HistoryRow(
            step=step,
            loss=entry.get("loss", math.nan),
            valid_loss=entry.get("eval_loss", math.nan),
            match_rate=entry.get("match_rate", math.nan),
            recall_at_1=entry.get("recall_at_1", math.nan),
            recall_at_10=entry.get("recall_at_10", math.nan),
        )
        for step, entry in sorted(by_step.items())
    ]
