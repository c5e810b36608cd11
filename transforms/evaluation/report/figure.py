"""A figure of the report, drawn alike everywhere, with the table of its numbers.

Colours are Okabe and Ito's (2008), which readers of all kinds of colour vision can tell apart;
markers and dashes differ as well.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.evaluation.policies.policy_names import OURS

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


def drawn(
    name: str,
    title: str,
    plot: "Plot",
    columns: list[str],
    rows: list[list[Any]],
    height: int = 380,
) -> Figure:
    """Return a figure of a plot, in the style of the page."""
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


def style(name: str, number: int) -> tuple[str, str, str]:
    """Return (colour, marker, dash) of a policy: ours in blue, full; the others in turn."""
    if name in OURS:
        return BLUE, _OWN_MARKERS[name], "solid"
    return (
        _COLOURS[number % len(_COLOURS)],
        _MARKERS[number % len(_MARKERS)],
        _DASHES[number % len(_DASHES)],
    )


def percent(value: float | None) -> str:
    """Return a share as text."""
    return "–" if value is None else f"{value:.1%}"
