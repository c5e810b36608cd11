"""The figures of a report, each with a sentence that says what to see and a table of its numbers.

Colours are Okabe and Ito's (2008), which readers of all kinds of colour vision can tell apart;
markers and dashes differ as well.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.evaluation.gates import kept_weights
from models.evaluation.policy_names import OURS
from transforms.report.sentences import policy_name

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F"),
)
_COLOURS = (ORANGE, GREEN, RED, PURPLE, SKY, GREY)
# More than colours, so that no two policies have both alike.
_MARKERS = (
    *("square", "triangle-up", "diamond", "x", "triangle-down", "cross"),
    *("pentagon", "star", "hourglass", "bowtie", "hexagon2"),
)
_OWN_MARKERS = dict(zip(OURS, ("circle", "circle-open", "circle-x"), strict=True))
_DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot", "5px 2px")
_GRID = "rgba(128,128,128,0.25)"  # seen on light and on dark


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Attributes
    ----------
    name
        Its id on the page.
    title
        What one should see.
    plot
        For plotly.js: JSON of `data` and `layout`.
    height
        Pixels.
    columns, rows
        Its numbers, for who can't see it.
    """

    name: str
    title: str
    plot: str
    height: int
    columns: list[str]
    rows: list[list[Any]]


def figures(metrics: dict[str, Any]) -> dict[str, list[Figure]]:
    """Return the figures of each section of the page; sections without data are left out."""
    sections: dict[str, Sequence[Callable[[dict[str, Any]], Figure | None]]] = {
        "recall": [_recall("macro_recall_at_5"), _recall("recall_at_5")],
        "paired": [
            _paired("paired", "macro_recall_at_5", "The table"),
            _paired("paired", "recall_at_5", "The table with popularity"),
            _paired("paired_pooled", "macro_recall_at_5", "The table, pooled,"),
        ],
        "labels": [_label_frequency, _head_and_tail],
        "calibration": [_calibration],
        "finetuning": [_finetuning, _losses],
        "simulation": [
            _novelty_and_satisfaction,
            _growth("unique_clusters", "interests a user engages with", False),
            _growth("users_with_5_clusters", "users with at least 5 interests", True),
        ],
        "diff": [_jaccard, _winners],
    }
    found = {
        name: [figure for make in makers if (figure := make(metrics)) is not None]
        for name, makers in sections.items()
    }
    return {name: made for name, made in found.items() if made}


def _figure(
    name: str,
    title: str,
    plot: "Plot",
    columns: list[str],
    rows: list[list[Any]],
    height: int = 380,
) -> Figure:
    plot.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        margin={"l": 60, "r": 20, "t": 16, "b": 54},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"font": {"family": "system-ui, sans-serif"}},
    )
    axis = {
        **{"gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": _GRID, "automargin": True},
        "title": {"font": {"size": 13}},
    }
    plot.update_xaxes(**axis, tickangle=0, nticks=6)
    plot.update_yaxes(**axis)
    content = plot.to_plotly_json()
    content["layout"].pop("template", None)
    return Figure(name, title, _plain_json(content), height, columns, rows)


def _plain_json(content: dict[str, Any]) -> str:
    """Return JSON that may stand inside a script element."""
    text = json.dumps(content, allow_nan=False, sort_keys=True)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _style(name: str, number: int) -> tuple[str, str, str]:
    """Return (colour, marker, dash) of a policy: ours in blue, full; the others in turn."""
    if name in OURS:
        return BLUE, _OWN_MARKERS[name], "solid"
    return (
        _COLOURS[number % len(_COLOURS)],
        _MARKERS[number % len(_MARKERS)],
        _DASHES[number % len(_DASHES)],
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _interval_plot(rows: list[tuple[str, dict[str, float]]], title: str, line: bool) -> "Plot":
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


def _recall(metric: str) -> Callable[[dict[str, Any]], Figure | None]:
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
            [policy_name(name), *(_percent(value[key]) for key in ("value", "low", "high"))]
            for name, value in rows
        ]
        axis = "recall@5 (share)"
        plot = _interval_plot(rows, axis, line=False)
        return _figure(metric, title, plot, columns, numbers, 110 + 27 * len(rows))

    return make


def _paired(where: str, metric: str, ours: str) -> Callable[[dict[str, Any]], Figure | None]:
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
        return _figure(f"{where}_{metric}", title, plot, columns, numbers, 110 + 27 * len(rows))

    return make


def _label_frequency(metrics: dict[str, Any]) -> Figure | None:
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
    return _figure(
        "label_frequency",
        f"The most frequent tenth of the interests has {share:.0%} of what users took up",
        plot,
        ["Interest", "Training users"],
        [[row["description"], f"{row['train_users']:,}"] for row in labels[:20]],
    )


def _head_and_tail(metrics: dict[str, Any]) -> Figure | None:
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
    return _figure(
        "head_and_tail",
        f"Rare interests are found best by {best}",
        plot,
        ["Policy", "Frequent interests", "Rare interests"],
        [[policy_name(name), _percent(head), _percent(tail)] for name, head, tail in rows[::-1]],
        140 + 27 * len(rows),
    )


def _calibration(metrics: dict[str, Any]) -> Figure | None:
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
        colour, marker, dash = _style(name, number)
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
    return _figure(
        "calibration",
        f"What {policy_name(name)} says is off by {100 * error:.1f} points on average",
        plot,
        ["Policy", "Said", "Happened", "Low", "High", "Answers"],
        [
            [
                policy_name(name),
                _percent(b["probability"]),
                *(_percent(b[key]) for key in ("observed", "low", "high")),
                f"{b['predictions']:,}",
            ]
            for name, value in found.items()
            for b in value["bins"]
        ],
    )


def _lines(history: list[dict[str, Any]], names: dict[str, str]) -> "Plot":
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


def _finetuning(metrics: dict[str, Any]) -> Figure | None:
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
        [f"{row['step']:,}", *(_percent(row.get(key)) for key in names)]
        for row in history
        if any(row.get(key) is not None for key in names)
    ]
    return _figure("finetuning", title, plot, ["Step", *names.values()], rows)


def _losses(metrics: dict[str, Any]) -> Figure | None:
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
    return _figure("losses", title, plot, ["Step", "Validation loss", "Training loss"], rows)


def _simulated(metrics: dict[str, Any], *names: str) -> dict[str, Any]:
    policies = (metrics.get("simulation") or {}).get("policies", {})
    return {name: p for name, p in policies.items() if all(p.get(key) for key in names)}


def _novelty_and_satisfaction(metrics: dict[str, Any]) -> Figure | None:
    import plotly.graph_objects as go

    policies = _simulated(metrics, "novelty_rate", "satisfaction")
    if not policies:
        return None
    plot, rows = go.Figure(), []
    for number, (name, series) in enumerate(policies.items()):
        means = [
            sum(day["value"] for day in series[key]) / len(series[key])
            for key in ("novelty_rate", "satisfaction")
        ]
        colour, marker, _ = _style(name, number)
        plot.add_scatter(
            x=[means[0]],
            y=[means[1]],
            mode="markers",
            name=policy_name(name),
            marker={"size": 13, "color": colour, "symbol": marker},
            hovertemplate="%{x:.1%} new, satisfaction %{y:.3f}",
        )
        rows.append([policy_name(name), _percent(means[0]), f"{means[1]:.3f}"])
    plot.update_xaxes(title="novelty (share of recommendations of new interests)", tickformat=".0%")
    plot.update_yaxes(title="satisfaction (mean a recommendation)")
    return _figure(
        "novelty_and_satisfaction",
        "What novelty costs in satisfaction: up and to the right is better",
        plot,
        ["Policy", "Novelty", "Satisfaction"],
        rows,
        420,
    )


def _growth(key: str, what: str, share: bool) -> Callable[[dict[str, Any]], Figure | None]:
    def make(metrics: dict[str, Any]) -> Figure | None:
        import plotly.graph_objects as go

        policies = _simulated(metrics, key)
        if not policies:
            return None
        plot = go.Figure()
        for number, (name, series) in enumerate(policies.items()):
            colour, marker, dash = _style(name, number)
            days = list(range(1, len(series[key]) + 1))
            plot.add_scatter(
                x=days + days[::-1],
                y=[d["high"] for d in series[key]] + [d["low"] for d in series[key]][::-1],
                fill="toself",
                fillcolor=colour,
                opacity=0.15,
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=name,
            )
            plot.add_scatter(
                x=days,
                y=[day["value"] for day in series[key]],
                mode="lines+markers",
                name=policy_name(name),
                legendgroup=name,
                line={"color": colour, "dash": dash},
                marker={"symbol": marker, "size": 6, "maxdisplayed": 8},
            )
        plot.update_xaxes(title="day of the simulation")
        plot.update_yaxes(
            title=what + (" (share)" if share else " (mean)"), tickformat=".0%" if share else None
        )
        form = _percent if share else "{:.2f}".format
        ends = {name: form(series[key][-1]["value"]) for name, series in policies.items()}
        highest = max(policies, key=lambda name: policies[name][key][-1]["value"])
        alike = [name for name, end in ends.items() if end == ends[highest]]
        best = f"{policy_name(highest)} ends highest"
        if len(alike) > 1:
            best = f"{len(alike)} of {len(ends)} policies end at {ends[highest]}"
        rows = [
            [policy_name(name), *(form(series[key][-1][k]) for k in ("value", "low", "high"))]
            for name, series in policies.items()
        ]
        title = f"{what[0].upper()}{what[1:]}: {best}"
        return _figure(key, title, plot, ["Policy", "On the last day", "Low", "High"], rows, 420)

    return make


def _jaccard(metrics: dict[str, Any]) -> Figure | None:
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
    return _figure(
        "jaccard",
        f"{diff['changed']:.0%} of the pairs have another first answer; the first five share "
        f"{diff['jaccard']['mean']:.0%}",
        plot,
        ["Jaccard", "Pairs"],
        [[f"{row['jaccard']:.2f}", f"{row['pairs']:,}"] for row in rows],
    )


def _winners(metrics: dict[str, Any]) -> Figure | None:
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
    return _figure(
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
