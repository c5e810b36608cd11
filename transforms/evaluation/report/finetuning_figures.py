"""Figures of the fine-tuning: what the model learned, step by step."""

from typing import TYPE_CHECKING, Any

from models.evaluation.gates import kept_weights
from transforms.evaluation.report.figure import BLUE, GREEN, GREY, ORANGE, Figure, drawn, percent

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot


def _lines(history: list[dict[str, Any]], names: dict[str, str]) -> "Plot":
    """Plot columns of the history, by their names, and where the weights kept are of."""
    import plotly.graph_objects as go

    plot = go.Figure()
    styles = (
        (BLUE, "circle", "solid"),
        (ORANGE, "square", "dash"),
        (GREEN, "triangle-up", "dot"),
    )
    for (key, name), (colour, marker, dash) in zip(names.items(), styles, strict=False):
        rows = [row for row in history if row.get(key) is not None]
        plot.add_scatter(
            x=[row["step"] for row in rows],
            y=[row[key] for row in rows],
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": dash},
            marker={"symbol": marker, "size": 8},
        )
    kept = kept_weights(history)
    if kept is not None:
        plot.add_vline(x=kept["step"], line={"color": GREY, "dash": "dot"})
        plot.add_annotation(
            x=kept["step"], y=1, yref="paper", text="kept", showarrow=False, yanchor="bottom"
        )
    plot.update_xaxes(title="fine-tuning steps")
    return plot


def finetuning(metrics: dict[str, Any]) -> Figure | None:
    """Draw match rate and recall on validation rows."""
    history = metrics.get("finetuning") or []
    if not history:
        return None
    kept = kept_weights(history)
    title = "What the model learns while it is fine-tuned"
    if kept is not None and kept["match_rate"] is not None:
        title = (
            f"With the weights kept {kept['match_rate']:.0%} of the free answers are a cluster's "
            "description"
        )
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
    plot.update_yaxes(title="loss (nats a token)", type="log")
    rows = [
        [f"{row['step']:,}", *("–" if row.get(k) is None else f"{row[k]:.3f}" for k in names)]
        for row in history
    ]
    title = "The weights kept are those of the lowest validation loss"
    return drawn("losses", title, plot, ["Step", "Validation loss", "Training loss"], rows)
