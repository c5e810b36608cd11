"""Figures of the differences to an earlier novelty table."""

import html
from typing import Any

from transforms.evaluation.report.figure import BLUE, ORANGE, Figure, drawn


def jaccard(metrics: dict[str, Any]) -> Figure | None:
    """Draw how similar the first five answers of each pair are."""
    import plotly.graph_objects as go

    if (diff := metrics.get("diff")) is None or not diff["jaccard"]["histogram"]:
        return None
    rows = [(f"{row['jaccard']:.2f}", row["pairs"]) for row in diff["jaccard"]["histogram"]]
    plot = go.Figure()
    plot.add_bar(
        x=[value for value, _ in rows],
        y=[pairs for _, pairs in rows],
        marker={"color": BLUE},
        hovertemplate="Jaccard %{x}: %{y:,} pairs<extra></extra>",
    )
    plot.update_xaxes(title="Jaccard of the first five answers (1: the same)", type="category")
    plot.update_yaxes(title="pairs of interests")
    return drawn(
        "jaccard",
        f"{diff['changed']:.0%} of the pairs have a new first answer; the mean Jaccard of the "
        f"first five answers is {diff['jaccard']['mean']:.0%}",
        plot,
        ["Jaccard", "Pairs"],
        [[value, f"{pairs:,}"] for value, pairs in rows],
    )


def winners(metrics: dict[str, Any]) -> Figure | None:
    """Draw the interests that are the first answer to more pairs, or to fewer."""
    import plotly.graph_objects as go

    if (diff := metrics.get("diff")) is None or not diff["winners"]:
        return None
    every = diff["winners"]
    rows = every if len(every) <= 16 else [*every[:8], *every[-8:]]
    plot = go.Figure()
    for key, sign, colour, pattern in (("won", 1, BLUE, ""), ("lost", -1, ORANGE, "/")):
        plot.add_bar(
            x=[sign * row[key] for row in reversed(rows)],
            y=[_short(row["description"]) for row in reversed(rows)],
            orientation="h",
            name=key,
            marker={"color": colour, "pattern": {"shape": pattern}},
        )
    plot.update_layout(barmode="relative")
    plot.update_xaxes(title="pairs won (right) and lost (left)", tickformat=",")
    return drawn(
        "winners",
        "The interests that gained or lost the most pairs",
        plot,
        ["Interest", "Won", "Lost"],
        [[row["description"], f"{row['won']:,}", f"{row['lost']:,}"] for row in rows],
        120 + 24 * len(rows),
    )


def _short(text: str) -> str:
    """Return a description that fits an axis, escaped: plotly reads markup."""
    return html.escape(text if len(text) <= 34 else text[:33] + "…", quote=False)
