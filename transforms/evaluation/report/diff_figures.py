"""Figures of what changed since an earlier novelty table."""

from typing import Any

from transforms.evaluation.report.figure import BLUE, ORANGE, Figure, drawn


def jaccard(metrics: dict[str, Any]) -> Figure | None:
    """Draw how alike the first five answers of each pair are."""
    import plotly.graph_objects as go

    if (diff := metrics.get("diff")) is None or not diff["jaccard"]["histogram"]:
        return None
    rows = diff["jaccard"]["histogram"]
    plot = go.Figure()
    plot.add_bar(
        x=[f"{row['jaccard']:.2f}" for row in rows],
        y=[row["pairs"] for row in rows],
        marker={"color": BLUE},
        hovertemplate="Jaccard %{x}: %{y:,} pairs<extra></extra>",
    )
    plot.update_xaxes(title="Jaccard of the first five answers (1: the same)", type="category")
    plot.update_yaxes(title="pairs of interests")
    return drawn(
        "jaccard",
        f"{diff['changed']:.0%} of the pairs have another first answer; the first five share "
        f"{diff['jaccard']['mean']:.0%}",
        plot,
        ["Jaccard", "Pairs"],
        [[f"{row['jaccard']:.2f}", f"{row['pairs']:,}"] for row in rows],
    )


def winners(metrics: dict[str, Any]) -> Figure | None:
    """Draw the interests that are the first answer of more, or of fewer, pairs."""
    import plotly.graph_objects as go

    if (diff := metrics.get("diff")) is None or not diff["winners"]:
        return None
    every = diff["winners"]
    rows = every if len(every) <= 16 else [*every[:8], *every[-8:]]
    names = [_short(row["description"]) for row in rows][::-1]
    plot = go.Figure()
    for key, sign, colour, pattern in (("won", 1, BLUE, ""), ("lost", -1, ORANGE, "/")):
        plot.add_bar(
            x=[sign * row[key] for row in rows][::-1],
            y=names,
            orientation="h",
            name=key,
            marker={"color": colour, "pattern": {"shape": pattern}},
        )
    plot.update_layout(barmode="relative")
    plot.update_xaxes(title="pairs won (right) and lost (left)", tickformat=",")
    return drawn(
        "winners",
        "The interests that gained and lost most",
        plot,
        ["Interest", "Won", "Lost"],
        [[row["description"], f"{row['won']:,}", f"{row['lost']:,}"] for row in rows],
        120 + 24 * len(rows),
    )


def _short(text: str) -> str:
    """Return a description that fits an axis; plotly reads markup, so there is none."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text if len(text) <= 34 else text[:33] + "…"
