"""The page of a report in headless Chromium: by mouse, by keyboard and on paper."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.common.synthetic_report import synthetic_report
from benchmarks.report import BROWSER_FLAGS
from models.interests.novelty_table import NoveltyTable
from transforms.evaluation.report.page import report_page

sync_api = pytest.importorskip("playwright.sync_api")

NASTY = "</script><script>window.broken = 1</script>"
SIZE = 18
DATA = synthetic_report(SIZE)
OLDER, NEWER = 3, 7
ANSWERS = [
    (DATA.table.descriptions[i], f"{100 * round(10_000 * float(p)) / 10_000:.1f}%")
    for i, p in zip(
        DATA.table.novel[OLDER, NEWER, :5],
        DATA.table.probability[OLDER, NEWER, :5],
        strict=True,
    )
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*BROWSER_FLAGS]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "index.html"
    items = [[NASTY], *DATA.items[1:]]
    users = np.zeros_like(DATA.pair_users)
    users[0 * SIZE + 1], users[OLDER * SIZE + NEWER] = 2000, 9
    path.write_text(report_page(replace(DATA, items=items, pair_users=users)))
    # The same without figures: quick to open, for what is not about them.
    few = {name: {"coverage": p["coverage"]} for name, p in DATA.metrics["policies"].items()}
    none = {"paired": {}, "calibration": None, "labels": [], "finetuning": [], "simulation": None}
    metrics = {**DATA.metrics, "policies": few, **none, "diff": None}
    plain = replace(DATA, metrics=metrics, items=items, pair_users=users)
    path.with_name("plain.html").write_text(report_page(plain))
    return path


@pytest.fixture
def page(chromium: Any, path: Path) -> Iterator[Any]:
    yield from opened(chromium, path)


@pytest.fixture
def plain(chromium: Any, path: Path) -> Iterator[Any]:
    yield from opened(chromium, path.with_name("plain.html"))


def opened(chromium: Any, path: Path) -> Iterator[Any]:
    """Open a page; nothing may be said on the console, nothing asked of the network."""
    page = chromium.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def shown_answers(page: Any) -> list[tuple[str, str]]:
    buttons = page.locator("#answers button").all()
    return [(b.locator("span").first.inner_text(), b.locator(".p").inner_text()) for b in buttons]


def test_figures_are_drawn_when_they_come_near(page: Any) -> None:
    last = page.locator("#figure-winners .plot")
    assert last.locator("svg").count() == 0
    last.scroll_into_view_if_needed()
    last.locator("svg.main-svg").first.wait_for()


def test_the_pair_most_users_come_from_is_there_at_first(plain: Any) -> None:
    page = plain
    page.locator("#browser").scroll_into_view_if_needed()
    page.locator("#answers button").first.wait_for()
    assert page.locator("#older").input_value() == DATA.table.descriptions[0]
    assert "2,000 users" in page.locator("#pair-status").inner_text()


def test_the_browser_works_by_mouse(plain: Any) -> None:
    page = plain
    for field, cluster in (("older", OLDER), ("newer", NEWER)):
        page.locator(f"#{field}").click()
        page.locator(f"#{field}-list [role=option]").nth(cluster).click()
    page.get_by_text("fewer than 10 users").first.wait_for()
    assert shown_answers(page) == ANSWERS
    page.locator("#answers button").nth(2).click()
    third = DATA.table.descriptions.index(ANSWERS[2][0])
    assert page.locator("#items li").all_inner_texts() == DATA.items[third]
    pressed = [
        button.get_attribute("aria-pressed") for button in page.locator("#answers button").all()
    ]
    assert pressed == ["false", "false", "true", "false", "false"]


def test_the_browser_works_by_keyboard_alone(plain: Any) -> None:
    page = plain
    keyboard = page.keyboard
    for _ in range(200):
        keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "older":
            break
    keyboard.type(DATA.table.descriptions[OLDER].upper())  # the text is selected: it is replaced
    active = page.locator("#older").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").inner_text() == DATA.table.descriptions[OLDER]
    keyboard.press("Enter")
    assert page.locator("#older").get_attribute("aria-expanded") == "false"
    keyboard.press("Tab")
    for _ in range(NEWER + 1):
        keyboard.press("ArrowDown")
    keyboard.press("Enter")
    page.get_by_text("fewer than 10 users").first.wait_for()
    assert shown_answers(page) == ANSWERS
    keyboard.press("Tab")
    keyboard.press("Tab")
    keyboard.press("Enter")
    second = DATA.table.descriptions.index(ANSWERS[1][0])
    sync_api.expect(page.locator("#items li")).to_have_text(DATA.items[second])  # once it is drawn


def test_escape_leaves_what_was_chosen(plain: Any) -> None:
    page = plain
    field = page.locator("#older")
    field.fill("no such interest")
    assert page.locator("#older-list [role=option]").count() == 0
    field.press("Escape")
    assert field.input_value() == DATA.table.descriptions[0]
    assert page.locator("#older-list").is_hidden()


def test_a_title_with_markup_is_text(plain: Any) -> None:
    page = plain
    pair = next(pair for pair in np.ndindex(SIZE, SIZE) if DATA.table.novel[pair][0] == 0)
    for field, cluster in zip(("older", "newer"), pair, strict=True):
        page.locator(f"#{field}").click()
        page.locator(f"#{field}-list [role=option]").nth(cluster).click()
    page.locator("#items li").get_by_text(NASTY).wait_for()
    assert page.evaluate("window.broken") is None


def test_a_table_is_sorted_by_keyboard_and_says_so(plain: Any) -> None:
    page = plain
    head = page.locator("#table-policies thead th").nth(1)  # coverage, the best first in the data
    head.locator("button").focus()
    column = page.locator("#table-policies tbody tr td:nth-child(2)")
    for order in ("descending", "ascending"):
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        keys = [float(cell.get_attribute("data-key")) for cell in column.all()]
        assert keys == sorted(keys, reverse=order == "descending")
    others = page.locator("#table-policies thead th:not([aria-sort=none])")
    assert others.count() == 1


def test_a_long_table_has_pages_and_a_filter(page: Any) -> None:
    box = page.locator("#table-labels")
    shown = box.locator("tbody tr:visible")
    assert shown.count() == 15
    box.locator(".next").click()
    assert box.locator(".shown").inner_text() == "16 to 18 of 18"
    box.locator(".filter").fill(DATA.table.descriptions[17])
    assert shown.count() == 1


def test_paper_has_all_figures_and_no_controls(page: Any) -> None:
    page.locator(".plot").first.scroll_into_view_if_needed()
    page.locator(".plot svg").first.wait_for()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".plot:not(:has(svg))").count() == 0
    for control in ("nav", ".pickers", ".pager", ".tools", ".skip"):
        assert page.locator(control).first.is_hidden()
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_is_no_wider_than_the_screen(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.locator(".plot").first.scroll_into_view_if_needed()
    page.locator(".plot svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_761_clusters_load_and_answer_without_errors(chromium: Any, tmp_path: Path) -> None:
    size = 761
    after = np.arange(size, dtype=np.int32)[:, None]
    novel = np.tile((after + 1 + np.arange(2, dtype=np.int32)) % size, (size, 1, 1))
    big = replace(
        DATA,
        table=NoveltyTable(
            novel,
            np.full(novel.shape, 0.25, np.float32),
            [f"interest {i}" for i in range(size)],
        ),
        items=[[] for _ in range(size)],
        pair_users=np.zeros(size**2, np.int64),
    )
    path = tmp_path / "index.html"
    path.write_text(report_page(big))
    page = chromium.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.locator("#newer").fill("interest 759")
    page.keyboard.press("Enter")
    page.locator("#answers").get_by_text("interest 760").wait_for()
    assert shown_answers(page) == [("interest 760", "25.0%"), ("interest 0", "25.0%")]
    page.close()
    assert errors == []
