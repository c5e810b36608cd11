"""Figures of the simulation: satisfaction, novelty and interests, day by day."""

from collections.abc import Callable
from typing import Any

from transforms.evaluation.report.figure import Figure, drawn, percent, style
from transforms.evaluation.report.sentences import policy_name


def _simulated(metrics: dict[str, Any], *names: str) -> dict[str, Any]:
    policies = (metrics.get("simulation") or {}).get("policies", {})
    return {name: p for name, p in policies.items() if all(p.get(key) for key in names)}


def novelty_and_satisfaction(metrics: dict[str, Any]) -> Figure | None:
    """Draw what novelty costs in satisfaction."""
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
        colour, marker, _ = style(name, number)
        plot.add_scatter(
            x=[means[0]],
            y=[means[1]],
            mode="markers",
            name=policy_name(name),
            marker={"size": 13, "color": colour, "symbol": marker},
            hovertemplate="%{x:.1%} new, satisfaction %{y:.3f}",
        )
        rows.append([policy_name(name), percent(means[0]), f"{means[1]:.3f}"])
    plot.update_xaxes(title="novelty (share of recommendations of new interests)", tickformat=".0%")
    plot.update_yaxes(title="satisfaction (mean a recommendation)")
    return drawn(
        "novelty_and_satisfaction",
        "What novelty costs in satisfaction: up and to the right is better",
        plot,
        ["Policy", "Novelty", "Satisfaction"],
        rows,
        420,
    )


def growth(key: str, what: str, share: bool) -> Callable[[dict[str, Any]], Figure | None]:
    """Return what draws a series of the simulation; `what` it is, and whether it is a share."""

    def make(metrics: dict[str, Any]) -> Figure | None:
        import plotly.graph_objects as go

        policies = _simulated(metrics, key)
        if not policies:
            return None
        plot = go.Figure()
        for number, (name, series) in enumerate(policies.items()):
            colour, marker, dash = style(name, number)
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
        form = percent if share else "{:.2f}".format
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
        return drawn(key, title, plot, ["Policy", "On the last day", "Low", "High"], rows, 420)

    return make
