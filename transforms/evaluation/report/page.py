"""Renders the report as one self-contained HTML page."""

import base64
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.evaluation.policies.policy_names import OURS
from transforms.evaluation.report.browser import ANSWERS, SCALE, first_pair, packed_table
from transforms.evaluation.report.data import ReportData
from transforms.evaluation.report.figure import percent, script_json
from transforms.evaluation.report.figures import figures
from transforms.evaluation.report.sentences import policy_name, verdict

_HERE = Path(__file__).parent
_METRICS = {
    "recall_at_1": "Recall@1",
    "recall_at_5": "Recall@5",
    "recall_at_10": "Recall@10",
    "macro_recall_at_5": "Macro recall@5",
    "mrr": "MRR",
    "coverage": "Coverage",
    "entropy": "Entropy",
    "novelty": "Novelty",
    "head_recall_at_5": "Head recall@5",
    "tail_recall_at_5": "Tail recall@5",
}


@dataclass(frozen=True)
class Cell:
    """A cell of a sortable table."""

    text: str
    key: float | str  # what the column is sorted by
    note: str = ""  # small print


def report_page(data: ReportData) -> str:
    """Return the page as HTML."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    metrics = data.metrics
    kind, heading = verdict(metrics)
    browser = {
        "names": data.table.descriptions,
        "items": data.items,
        "answers": ANSWERS,
        "scale": SCALE,
        "minUsers": data.min_users,
        "first": first_pair(data),
    }
    return environment.get_template("template.html.j2").render(
        metrics=metrics,
        kind=kind,
        heading=heading,
        sentences=metrics["summary"],
        gates=metrics["gates"],
        sections=figures(metrics),
        policies=_policies(metrics),
        labels=_labels(metrics, data.min_users),
        most_changed=(metrics.get("diff") or {}).get("most_changed", []),
        stages=(metrics.get("data") or {}).get("stages", {}),
        browser=script_json(browser),
        table=packed_table(data),
        min_users=data.min_users,
        plotly=_plotly(),
        css=(_HERE / "report.css").read_text(),
        js=(_HERE / "report.js").read_text(),
        share=percent,
    )


def _policies(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the table of all policies: ours first, then by macro recall."""
    found = metrics["policies"]
    names = [key for key in _METRICS if any(key in values for values in found.values())]

    def rank(policy: str) -> tuple[int, float]:
        if policy in OURS:
            return OURS.index(policy), 0.0
        macro = (found[policy].get("macro_recall_at_5") or {}).get("value")
        return len(OURS), 0.0 if macro is None else -macro

    return {
        "columns": ["Policy", *(_METRICS[name] for name in names)],
        "rows": [
            [Cell(policy_name(policy), policy_name(policy))]
            + [_measured(key, found[policy].get(key)) for key in names]
            for policy in sorted(found, key=rank)
        ],
    }


def _measured(key: str, value: dict[str, Any] | None) -> Cell:
    value = value or {}
    form = {"entropy": "{:.2f}", "mrr": "{:.3f}"}.get(key, "{:.1%}")
    low, high = value.get("low"), value.get("high")
    note = "" if low is None or high is None else f"{form.format(low)} to {form.format(high)}"
    return _number(value.get("value"), form, note)


def _number(value: float | None, form: str, note: str = "") -> Cell:
    return Cell("–", -1.0) if value is None else Cell(form.format(value), value, note)


def _labels(metrics: dict[str, Any], min_users: int) -> dict[str, Any]:
    rows = metrics.get("labels") or []
    policies = list(rows[0]["recall_at_5"]) if rows else []
    return {
        "columns": ["Interest", "Training users", "Test transitions"]
        + [f"Recall@5, {policy_name(name)}" for name in policies],
        "rows": [
            [
                Cell(row["description"], row["description"]),
                _count(row["train_users"], min_users),
                _count(row["test_transitions"], min_users),
                *(_number(row["recall_at_5"][name], "{:.1%}") for name in policies),
            ]
            for row in rows
        ],
    }


def _count(count: int | None, min_users: int) -> Cell:
    if count is None or count < min_users:
        return Cell(f"fewer than {min_users}", 0)
    return Cell(f"{count:,}", count)


def _plotly() -> str:
    """Return plotly.js as base64 of gzip: a third of the size, parsed when needed."""
    import plotly.offline

    library = plotly.offline.get_plotlyjs().encode()
    return base64.b64encode(gzip.compress(library, 6, mtime=0)).decode()
