"""Figures of the simulation, day by day."""

from typing import Any

from transforms.evaluation.report.figure import Figure, drawn, percent, style
from transforms.evaluation.report.sentences import policy_name


def _simulated(metrics: dict[str, Any], *measures: str) -> dict[str, Any]:
    policies = (metrics.get("simulation") or {}).get("policies", {})
    return {name: p for name, p in policies.items() if all(p.get(key) for key in measures)}


def novelty_and_satisfaction(metrics: dict[str, Any]) -> Figure | None:
    """Draw the mean satisfaction by the mean novelty."""
    import plotly.graph_objects as go

    policies = _simulated(metrics, "novelty_rate", "satisfaction")
    if not policies:
        return None
    plot, rows = go.Figure(), []
    for number, (name, series) in enumerate(policies.items()):
        novelty, satisfaction = (
            sum(day["value"] for day in series[key]) / len(series[key])
            for key in ("novelty_rate", "satisfaction")
        )
        colour, marker, _ = style(name, number)
        plot.add_scatter(
            x=[novelty],
            y=[satisfaction],
            mode="markers",
            name=policy_name(name),
            marker={"size": 13, "color": colour, "symbol": marker},
            hovertemplate="novelty %{x:.1%}, satisfaction %{y:.3f}",
        )
        rows.append([policy_name(name), percent(novelty), f"{satisfaction:.3f}"])
    plot.update_xaxes(title="novelty (share of engagements with new interests)", tickformat=".0%")
    plot.update_yaxes(title="satisfaction (engagements per recommendation)")
    title = "Satisfaction by novelty: up and to the right is better"
    columns = ["Policy", "Novelty", "Satisfaction"]
    return drawn("novelty_and_satisfaction", title, plot, columns, rows, 420)


def growth(measure: str, what: str, share: bool, metrics: dict[str, Any]) -> Figure | None:
    """Draw a measure, called `what`, day by day."""
    import plotly.graph_objects as go

    policies = {name: p[measure] for name, p in _simulated(metrics, measure).items()}
    if not policies:
        return None
    plot = go.Figure()
    for number, (name, series) in enumerate(policies.items()):
        colour, marker, dash = style(name, number)
        days = list(range(1, len(series) + 1))
        plot.add_scatter(
            x=days + days[::-1],
            y=[day["high"] for day in series] + [day["low"] for day in series][::-1],
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
            y=[day["value"] for day in series],
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
    form = percent if share else "{:.2f}".format
    rows = [
        [policy_name(name), *(form(series[-1][key]) for key in ("value", "low", "high"))]
        for name, series in policies.items()
    ]
    highest = max(policies, key=lambda name: policies[name][-1]["value"])
    end = form(policies[highest][-1]["value"])
    ties = sum(row[1] == end for row in rows)
    best = f"{policy_name(highest)} is highest on the last day"
    if ties > 1:
        best = f"{ties} of {len(rows)} policies reach {end} on the last day"
    title = f"{what[0].upper()}{what[1:]}: {best}"
    return drawn(measure, title, plot, ["Policy", "On the last day", "Low", "High"], rows, 420)
