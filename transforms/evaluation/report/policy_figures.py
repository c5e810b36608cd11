"""Figures of what each policy found: recall, differences, by frequency, and calibration."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from models.evaluation.policies.policy_names import OURS
from transforms.evaluation.report.figure import BLUE, GREY, ORANGE, Figure, drawn, percent, style
from transforms.evaluation.report.sentences import policy_name

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot


def _interval_plot(rows: list[tuple[str, dict[str, float]]], title: str, line: bool) -> "Plot":
    """Plot values with their intervals; differences with a line at 0."""
    import plotly.graph_objects as go

    plot = go.Figure()
    for name, value in reversed(rows):
        ours = name in OURS
        plot.add_scatter(
            x=[value["value"]],
            y=[policy_name(name)],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [value["high"] - value["value"]],
                "arrayminus": [value["value"] - value["low"]],
                "thickness": 1.6,
                "width": 4,
            },
            mode="markers",
            marker={
                "size": 12 if ours else 9,
                "color": BLUE if ours else ORANGE,
                "symbol": "diamond" if ours else "circle",
            },
            showlegend=False,
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    plot.update_xaxes(title=title, tickformat="+.1%" if line else ".0%", rangemode="normal")
    if line:
        plot.add_vline(x=0, line={"color": GREY, "width": 1.5})
    else:
        plot.update_xaxes(rangemode="tozero")
    plot.update_layout(margin={"l": 10})
    return plot


_METRIC_TITLES = {
    "macro_recall_at_5": "recall@5, averaged over interests",
    "recall_at_5": "recall@5, over all transitions",
}


def recall(metric: str) -> Callable[[dict[str, Any]], Figure | None]:
    """Return what draws a recall of every policy."""

    def make(metrics: dict[str, Any]) -> Figure | None:
        rows = [
            (name, values[metric])
            for name, values in metrics["policies"].items()
            if values.get(metric, {}).get("value") is not None
        ]
        if not rows:
            return None
        rows.sort(key=lambda row: -row[1]["value"])
        first = policy_name(rows[0][0])
        title = f"{_METRIC_TITLES[metric].capitalize()}: {first} finds most"
        columns = ["Policy", "Recall@5", "Low", "High"]
        numbers = [
            [policy_name(name), *(percent(value[key]) for key in ("value", "low", "high"))]
            for name, value in rows
        ]
        axis = "recall@5 (share)"
        plot = _interval_plot(rows, axis, line=False)
        return drawn(metric, title, plot, columns, numbers, 110 + 27 * len(rows))

    return make


def paired(where: str, metric: str, ours: str) -> Callable[[dict[str, Any]], Figure | None]:
    """Return what draws the differences of `ours` to other policies, at `where` in metrics.json."""

    def make(metrics: dict[str, Any]) -> Figure | None:
        compared = (metrics.get(where) or {}).get(metric)
        if not compared:
            return None
        rows = sorted(compared.items(), key=lambda row: row[1]["value"])
        won = sum(value["low"] > 0 for _, value in rows)
        over = _METRIC_TITLES[metric].partition(", ")[2]
        title = f"{ours} beats {won} of {len(rows)} policies by more than chance, {over}"
        axis = "difference (points)"
        plot = _interval_plot(rows, axis, line=True)
        numbers = [
            [policy_name(name), *(f"{value[key]:+.1%}" for key in ("value", "low", "high"))]
            for name, value in rows
        ]
        columns = ["Against", "Difference", "Low", "High"]
        return drawn(f"{where}_{metric}", title, plot, columns, numbers, 110 + 27 * len(rows))

    return make


def label_frequency(metrics: dict[str, Any]) -> Figure | None:
    """Draw how often each interest is taken up."""
    import plotly.graph_objects as go

    labels = sorted(
        (row for row in metrics.get("labels") or [] if row["train_users"]),
        key=lambda row: -row["train_users"],
    )
    if not labels:
        return None
    users = [row["train_users"] for row in labels]
    tenth = max(1, len(users) // 10)
    share = sum(users[:tenth]) / sum(users)
    plot = go.Figure()
    plot.add_scatter(
        x=list(range(1, len(users) + 1)),
        y=users,
        mode="lines",
        fill="tozeroy",
        line={"color": BLUE},
        text=[row["description"] for row in labels],
        hovertemplate="%{text}: %{y:,} users<extra></extra>",
        showlegend=False,
    )
    plot.update_xaxes(title="interest, the most frequent first (rank)")
    plot.update_yaxes(title="training users who took it up", rangemode="tozero")
    return drawn(
        "label_frequency",
        f"The most frequent tenth of the interests has {share:.0%} of what users took up",
        plot,
        ["Interest", "Training users"],
        [[row["description"], f"{row['train_users']:,}"] for row in labels[:20]],
    )


def head_and_tail(metrics: dict[str, Any]) -> Figure | None:
    """Draw the recall of frequent and of rare interests."""
    import plotly.graph_objects as go

    keys = ("head_recall_at_5", "tail_recall_at_5")
    rows = [
        (name, *(values[key]["value"] for key in keys))
        for name, values in metrics["policies"].items()
        if all(values.get(key, {}).get("value") is not None for key in keys)
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: row[2])
    plot = go.Figure()
    for at, label, colour, marker in (
        (1, "frequent interests (head)", ORANGE, "square"),
        (2, "rare interests (tail)", BLUE, "circle"),
    ):
        plot.add_scatter(
            x=[row[at] for row in rows],
            y=[policy_name(row[0]) for row in rows],
            mode="markers",
            name=label,
            marker={"size": 10, "color": colour, "symbol": marker},
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    plot.update_xaxes(title="recall@5 (share)", tickformat=".0%", rangemode="tozero")
    best = policy_name(rows[-1][0])
    return drawn(
        "head_and_tail",
        f"Rare interests are found best by {best}",
        plot,
        ["Policy", "Frequent interests", "Rare interests"],
        [[policy_name(name), percent(head), percent(tail)] for name, head, tail in rows[::-1]],
        140 + 27 * len(rows),
    )


def calibration(metrics: dict[str, Any]) -> Figure | None:
    """Draw how often happens what a policy says with which probability."""
    import plotly.graph_objects as go

    found = metrics.get("calibration") or {}
    found = {name: value for name, value in found.items() if value["bins"]}
    if not found:
        return None
    plot = go.Figure()
    end = max(max(b["probability"], b["high"]) for v in found.values() for b in v["bins"])
    plot.add_scatter(
        x=[0, end],
        y=[0, end],
        mode="lines",
        line={"color": GREY, "dash": "dot"},
        name="as often as said",
        hoverinfo="skip",
    )
    for number, (name, value) in enumerate(found.items()):
        colour, marker, dash = style(name, number)
        plot.add_scatter(
            x=[b["probability"] for b in value["bins"]],
            y=[b["observed"] for b in value["bins"]],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [b["high"] - b["observed"] for b in value["bins"]],
                "arrayminus": [b["observed"] - b["low"] for b in value["bins"]],
            },
            mode="lines+markers",
            name=policy_name(name),
            line={"color": colour, "dash": dash},
            marker={"symbol": marker, "size": 9},
            hovertemplate="said %{x:.1%}, happened %{y:.1%}<extra></extra>",
        )
    plot.update_xaxes(title="probability that the policy gives (mean of the bin)", tickformat=".0%")
    plot.update_yaxes(title="how often it happened (share)", tickformat=".0%")
    name, value = next(iter(found.items()))
    error = value["expected_calibration_error"]
    return drawn(
        "calibration",
        f"What {policy_name(name)} says is off by {100 * error:.1f} points on average",
        plot,
        ["Policy", "Said", "Happened", "Low", "High", "Answers"],
        [
            [
                policy_name(name),
                percent(b["probability"]),
                *(percent(b[key]) for key in ("observed", "low", "high")),
                f"{b['predictions']:,}",
            ]
            for name, value in found.items()
            for b in value["bins"]
        ],
    )
