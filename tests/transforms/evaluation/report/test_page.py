"""What the page of a report says, shows and hides, without a browser."""

import base64
import gzip
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from benchmarks.common.synthetic_report import synthetic_report
from models.evaluation.policies.policy_names import OURS
from transforms.evaluation.report.browser import ANSWERS, NONE, SCALE, first_pair, packed_table
from transforms.evaluation.report.data import ReportData
from transforms.evaluation.report.page import report_page
from transforms.evaluation.report.sentences import policy_name

DATA = synthetic_report(6)
NASTY = "</script><script>window.broken = 1</script>\"'&<img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """The tags and ids of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.text: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_data(self, data: str) -> None:
        if self.ids:
            self.text.setdefault(self.ids[-1], data)


@pytest.fixture(scope="module")
def page() -> str:
    return report_page(DATA)


def test_the_same_data_give_the_same_bytes(page: str) -> None:
    assert report_page(synthetic_report(6)) == page


def test_ids_are_unique(page: str) -> None:
    ids = Elements(page).ids
    assert len(ids) == len(set(ids))


def test_all_sections_are_there(page: str) -> None:
    sections = ("summary", "recall", "paired", "policies", "browser", "labels", "calibration")
    assert {*sections, "finetuning", "simulation", "diff", "data"} <= {*Elements(page).ids}


@pytest.mark.parametrize(
    ("empty", "section"),
    [("simulation", "simulation"), ("diff", "diff"), ("calibration", "calibration")],
)
def test_a_section_without_data_is_left_out(empty: str, section: str) -> None:
    without = replace(DATA, metrics={**DATA.metrics, empty: None, "summary": ["Nothing."]})
    page = report_page(without)
    assert section not in Elements(page).ids
    assert f'href="#{section}"' not in page


def test_policies_are_ours_and_then_the_others_by_macro_recall() -> None:
    alike = {**DATA.metrics, "policies": dict(sorted(DATA.metrics["policies"].items()))}
    page = report_page(replace(DATA, metrics=alike))
    (table,) = re.findall(r'id="table-policies".*?</table>', page, re.DOTALL)
    rows = re.findall(r'<th scope="row" data-key="([^"]*)"', table)
    by_recall = sorted(
        (name for name in alike["policies"] if name not in OURS),
        key=lambda name: -alike["policies"][name]["macro_recall_at_5"]["value"],
    )
    assert rows == [policy_name(name) for name in (*OURS, *by_recall)]


def test_every_figure_has_a_text_and_a_table(page: str) -> None:
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert len(figures) > 10
    for figure in figures:
        assert 'aria-label="' in figure
        assert "<tbody><tr>" in figure


def test_nothing_is_fetched(page: str) -> None:
    own = re.sub(r'<script type="application/octet-stream".*?</script>', "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|data:)', own)
    assert "default-src 'none'" in own


def test_markup_in_descriptions_titles_and_reasons_is_text() -> None:
    metrics = json.loads(json.dumps(DATA.metrics))
    metrics["labels"][0]["description"] = NASTY
    metrics["diff"]["winners"][0]["description"] = NASTY
    metrics["data"]["stages"]["finetune"]["dead_letter"] = {NASTY: 1}
    metrics["summary"] = [NASTY]
    nasty = replace(
        DATA,
        metrics=metrics,
        table=replace(DATA.table, descriptions=[NASTY, *DATA.table.descriptions[1:]]),
        items=[[NASTY], *DATA.items[1:]],
    )
    page = report_page(nasty)
    assert "<img" not in page
    assert Elements(page).tags.count("script") == Elements(report_page(DATA)).tags.count("script")
    assert json.loads(Elements(page).text["browser-data"])["names"][0] == NASTY


def unpacked(data: ReportData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the packed table byte by byte."""
    content = gzip.decompress(base64.b64decode(packed_table(data)))
    pairs, start, arrays = data.table.size**2, 0, []
    for length, width in ((ANSWERS * pairs, 2), (ANSWERS * pairs, 2), (pairs, 4)):
        values = [
            sum(content[start + plane * length + i] << 8 * plane for plane in range(width))
            for i in range(length)
        ]
        arrays.append(np.array(values))
        start += length * width
    assert start == len(content)
    novel, probability, users = arrays
    return novel.reshape(ANSWERS, pairs), probability.reshape(ANSWERS, pairs), users


def test_the_packed_table_is_the_table() -> None:
    novel, probability, users = unpacked(DATA)  # 6 clusters: 4 answers to a pair
    for row in range(36):
        pair = divmod(row, 6)
        expected = [int(i) if i >= 0 else NONE for i in DATA.table.novel[pair]]
        expected += [NONE] * (ANSWERS - len(expected))
        assert novel[:, row].tolist() == expected[:ANSWERS]
        there = novel[:, row] != NONE
        shares = DATA.table.probability[pair][: there.sum()]
        assert np.abs(probability[there, row] / SCALE - shares).max() <= 0.5 / SCALE + 1e-9
    hidden = DATA.pair_users < DATA.min_users
    assert hidden.any()
    assert (users[hidden] == 0).all()
    assert (users[~hidden] == DATA.pair_users[~hidden]).all()


def test_the_first_pair_is_the_one_most_users_come_from() -> None:
    users = np.zeros(36, np.int64)
    users[0], users[8], users[9] = 99, 20, 30  # (0, 0) has one interest only
    assert first_pair(replace(DATA, pair_users=users)) == (1, 3)


def test_counts_of_few_users_are_hidden() -> None:
    metrics = json.loads(json.dumps(DATA.metrics))
    metrics["labels"][0] |= {"train_users": None, "test_transitions": None}
    rows = re.findall(
        r'<th scope="row" data-key="space, adventure">.*?</tr>',
        report_page(replace(DATA, metrics=metrics)),
    )
    assert rows[0].count("fewer than 10") == 2
