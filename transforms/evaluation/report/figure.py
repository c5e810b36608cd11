"""The common style of the report's figures, and their tables of numbers.

The colours are those of Okabe and Ito (2008), which stay distinct with colour blindness; markers
and dashes differ as well.
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
# The number of markers has no common factor with that of colours: no two policies share both.
_MARKERS = (
    *("square", "triangle-up", "diamond", "x", "triangle-down", "cross"),
    *("pentagon", "star-square", "hourglass", "bowtie", "hexagon2"),
)
_OWN_MARKERS = dict(
    zip(
        OURS,
        (
            *("circle", "circle-open", "circle-x", "star", "circle-cross"),
            *("circle-x-open", "circle-cross-open"),
        ),
        strict=True,
    )
)
_DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot", "5px 2px")
_GRID = "rgba(128,128,128,0.25)"  # visible on light and on dark


@dataclass(frozen=True)
class Figure:
    """A figure of the page."""

    name: str  # id on the page
    title: str
    plot: str  # JSON of `data` and `layout` for plotly.js
    height: int  # pixels
    columns: list[str]  # the numbers as a table
    rows: list[list[Any]]


def drawn(
    name: str,
    title: str,
    plot: "Plot",
    columns: list[str],
    rows: list[list[Any]],
    height: int = 380,
) -> Figure:
    """Return a plot as a figure in the style of the page."""
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
    return Figure(name, title, script_json(content), height, columns, rows)


def script_json(content: Any) -> str:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, sort_keys=True)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def style(name: str, number: int) -> tuple[str, str, str]:
    """Return colour, marker and dash of a policy; ours are blue and solid."""
    if name in OURS:
        return BLUE, _OWN_MARKERS[name], "solid"
    return (
        _COLOURS[number % len(_COLOURS)],
        _MARKERS[number % len(_MARKERS)],
        _DASHES[number % len(_DASHES)],
    )


def interval_bars(values: list[float], low: list[float], high: list[float]) -> dict[str, Any]:
    """Return plotly error bars from the ends of intervals."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [end - value for value, end in zip(values, high, strict=True)],
        "arrayminus": [value - end for value, end in zip(values, low, strict=True)],
    }


def percent(value: float | None) -> str:
    """Return a share as text."""
    return "–" if value is None else f"{value:.1%}"
