"""Figures of the fine-tuning, step by step."""

from typing import TYPE_CHECKING, Any

from models.evaluation.gates import kept_weights
from transforms.evaluation.report.figure import BLUE, GREEN, GREY, ORANGE, Figure, drawn, percent

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

_STYLES = ((BLUE, "circle", "solid"), (ORANGE, "square", "dash"), (GREEN, "triangle-up", "dot"))


def _lines(history: list[dict[str, Any]], names: dict[str, str]) -> "Plot":
    """Plot columns of the history, by their names, and mark the kept weights."""
    import plotly.graph_objects as go

    plot = go.Figure()
    for (key, name), (colour, marker, dash) in zip(names.items(), _STYLES, strict=False):
        rows = [row for row in history if row.get(key) is not None]
        plot.add_scatter(
            x=[row["step"] for row in rows],
            y=[row[key] for row in rows],
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": dash},
            marker={"symbol": marker, "size": 8},
        )
    if (kept := kept_weights(history)) is not None:
        line = {"color": GREY, "dash": "dot"}
        plot.add_vline(x=kept["step"], line=line, annotation_text="kept", annotation_position="top")
    plot.update_xaxes(title="fine-tuning steps")
    return plot


def finetuning(metrics: dict[str, Any]) -> Figure | None:
    """Draw match rate and recall on validation rows."""
    history = metrics.get("finetuning") or []
    if (kept := kept_weights(history)) is None:
        return None
    title = "Match rate and recall during fine-tuning"
    if kept["match_rate"] is not None:
        title = f"The match rate of the kept weights is {kept['match_rate']:.0%}"
    names = {
        "match_rate": "match rate, free generation",
        "recall_at_10": "recall@10, constrained",
        "recall_at_1": "recall@1, constrained",
    }
    plot = _lines(history, names)
    plot.update_yaxes(title="share of validation rows", tickformat=".0%", rangemode="tozero")
    rows = [
        [f"{row['step']:,}", *(percent(row.get(key)) for key in names)]
        for row in history
        if any(row.get(key) is not None for key in names)
    ]
    return drawn("finetuning", title, plot, ["Step", *names.values()], rows)


def losses(metrics: dict[str, Any]) -> Figure | None:
    """Draw training and validation loss."""
    history = metrics.get("finetuning") or []
    if not any(row.get("valid_loss") is not None for row in history):
        return None
    names = {"valid_loss": "validation", "loss": "training"}
    plot = _lines(history, names)
    plot.update_yaxes(title="loss (nats per token)", type="log")
    rows = [
        [f"{row['step']:,}", *("–" if row.get(k) is None else f"{row[k]:.3f}" for k in names)]
        for row in history
    ]
    title = "The kept weights have the lowest validation loss"
    return drawn("losses", title, plot, ["Step", "Validation loss", "Training loss"], rows)
