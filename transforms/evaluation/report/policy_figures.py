"""Figures of the policies: recall, differences, label frequency and calibration."""

from typing import Any

from models.evaluation.policies.policy_names import OURS
from transforms.evaluation.report.figure import (
    BLUE,
    GREY,
    ORANGE,
    Figure,
    drawn,
    interval_bars,
    percent,
    style,
)
from transforms.evaluation.report.sentences import policy_name

_METRIC_TITLES = {
    "macro_recall_at_5": "recall@5, averaged over interests",
    "recall_at_5": "recall@5, over all transitions",
}
_ENDS = ("value", "low", "high")


def _interval_figure(
    name: str, title: str, rows: list[tuple[str, dict[str, float]]], differences: bool
) -> Figure:
    """Draw policies' values with their intervals; differences with a line at 0."""
    import plotly.graph_objects as go

    values, low, high = ([row[key] for _, row in reversed(rows)] for key in _ENDS)
    ours = [policy in OURS for policy, _ in reversed(rows)]
    plot = go.Figure()
    plot.add_scatter(
        x=values,
        y=[policy_name(policy) for policy, _ in reversed(rows)],
        error_x={
            **interval_bars(values, low, high),
            **{"thickness": 1.6, "width": 4, "color": GREY},
        },
        mode="markers",
        marker={
            "size": [12 if own else 9 for own in ours],
            "color": [BLUE if own else ORANGE for own in ours],
            "symbol": ["diamond" if own else "circle" for own in ours],
            "opacity": 1,
        },
        showlegend=False,
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    plot.update_layout(margin={"l": 10})
    if differences:
        plot.update_xaxes(title="difference (points)", tickformat="+.1%")
        plot.add_vline(x=0, line={"color": GREY, "width": 1.5})
    else:
        plot.update_xaxes(title="recall@5 (share)", tickformat=".0%", rangemode="tozero")
    form = "{:+.1%}".format if differences else percent
    return drawn(
        *(name, title, plot),
        [*(("Against", "Difference") if differences else ("Policy", "Recall@5")), "Low", "High"],
        [[policy_name(policy), *(form(row[key]) for key in _ENDS)] for policy, row in rows],
        110 + 27 * len(rows),
    )


def recall(metric: str, metrics: dict[str, Any]) -> Figure | None:
    """Draw a recall of every policy."""
    rows = [
        (name, values[metric])
        for name, values in metrics["policies"].items()
        if values.get(metric, {}).get("value") is not None
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: -row[1]["value"])
    title = f"{_METRIC_TITLES[metric].capitalize()}: {policy_name(rows[0][0])} is best"
    return _interval_figure(metric, title, rows, differences=False)


def paired(where: str, metric: str, ours: str, metrics: dict[str, Any]) -> Figure | None:
    """Draw the differences of `ours` to other policies."""
    compared = (metrics.get(where) or {}).get(metric)
    if not compared:
        return None
    rows = sorted(compared.items(), key=lambda row: row[1]["value"])
    better = sum(value["low"] > 0 for _, value in rows)
    over = _METRIC_TITLES[metric].partition(", ")[2]
    title = f"{ours} is significantly better than {better} of {len(rows)} policies, {over}"
    return _interval_figure(f"{where}_{metric}", title, rows, differences=True)


def label_frequency(metrics: dict[str, Any]) -> Figure | None:
    """Draw how many users engage with each interest."""
    import plotly.graph_objects as go

    labels = sorted(
        (row for row in metrics.get("labels") or [] if row["train_users"]),
        key=lambda row: -row["train_users"],
    )
    if not labels:
        return None
    users = [row["train_users"] for row in labels]
    share = sum(users[: max(1, len(users) // 10)]) / sum(users)
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
    plot.update_xaxes(title="rank of the interest, most frequent first")
    plot.update_yaxes(title="training users", rangemode="tozero")
    return drawn(
        "label_frequency",
        f"The most frequent 10% of the interests have {share:.0%} of the training transitions",
        plot,
        ["Interest", "Training users"],
        [[row["description"], f"{row['train_users']:,}"] for row in labels[:20]],
    )


def head_and_tail(metrics: dict[str, Any]) -> Figure | None:
    """Draw the recall for frequent and for rare interests."""
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
    return drawn(
        "head_and_tail",
        f"{policy_name(rows[-1][0])} is best for rare interests",
        plot,
        ["Policy", "Frequent interests", "Rare interests"],
        [[policy_name(name), percent(head), percent(tail)] for name, head, tail in rows[::-1]],
        140 + 27 * len(rows),
    )


def calibration(metrics: dict[str, Any]) -> Figure | None:
    """Draw the observed share of predictions that come true, by their probability."""
    import plotly.graph_objects as go

    found = {name: v for name, v in (metrics.get("calibration") or {}).items() if v["bins"]}
    if not found:
        return None
    plot = go.Figure()
    end = max(max(b["probability"], b["high"]) for v in found.values() for b in v["bins"])
    plot.add_scatter(
        x=[0, end],
        y=[0, end],
        mode="lines",
        line={"color": GREY, "dash": "dot"},
        name="perfect calibration",
        hoverinfo="skip",
    )
    for number, (name, value) in enumerate(found.items()):
        colour, marker, dash = style(name, number)
        observed, low, high = ([b[k] for b in value["bins"]] for k in ("observed", "low", "high"))
        plot.add_scatter(
            x=[b["probability"] for b in value["bins"]],
            y=observed,
            error_y=interval_bars(observed, low, high),
            mode="lines+markers",
            name=policy_name(name),
            line={"color": colour, "dash": dash},
            marker={"symbol": marker, "size": 9},
            hovertemplate="predicted %{x:.1%}, observed %{y:.1%}<extra></extra>",
        )
    plot.update_xaxes(title="predicted probability (mean of the bin)", tickformat=".0%")
    plot.update_yaxes(title="observed share", tickformat=".0%")
    name, value = next(iter(found.items()))
    error = 100 * value["expected_calibration_error"]
    return drawn(
        "calibration",
        f"The expected calibration error of {policy_name(name)} is {error:.1f} points",
        plot,
        ["Policy", "Predicted", "Observed", "Low", "High", "Answers"],
        [
            [
                policy_name(name),
                *(percent(b[key]) for key in ("probability", "observed", "low", "high")),
                f"{b['predictions']:,}",
            ]
            for name, value in found.items()
            for b in value["bins"]
        ],
    )
