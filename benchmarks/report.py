"""How long the page of a report takes to load in headless Chromium, and how large it is."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report_data import synthetic_report
from transforms.evaluation.report.page import report_page

BROWSER_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"
_DRAWN = ".js-plotly-plot"


def load_seconds(path: Path, loads: int) -> list[tuple[float, float]]:
    """Return seconds until the load event, and until the first figure is drawn, of each load."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*BROWSER_FLAGS]
        )
        for _ in range(loads):
            page = browser.new_page()
            page.goto(path.as_uri())  # returns after the load event
            loaded = page.evaluate(_LOADED)
            page.locator(".plot").first.scroll_into_view_if_needed()
            page.wait_for_selector(_DRAWN)
            found.append((loaded / 1000, page.evaluate("performance.now()") / 1000))
            page.close()
        browser.close()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print, the figures last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=761)
    parser.add_argument("--loads", type=int, default=5)
    flags = parser.parse_args(argv)
    begun = time.monotonic()
    data = synthetic_report(flags.clusters)
    print(f"made up in {time.monotonic() - begun:.1f} s")
    begun = time.monotonic()
    content = report_page(data).encode()
    print(f"page written in {time.monotonic() - begun:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.html"
        path.write_bytes(content)
        loads = load_seconds(path, flags.loads)
    print("first figure drawn after", ", ".join(f"{drawn:.2f} s" for _, drawn in loads))
    figures = {
        "load_s": round(max(loaded for loaded, _ in loads), 3),
        "size_mib": round(len(content) / 2**20, 2),
        "clusters": flags.clusters,
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
