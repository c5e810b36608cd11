"""How long the page of a report takes to load in headless Chromium, and how large it is."""

import json
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.common.output import command_line, print_table
from benchmarks.common.synthetic_report import synthetic_report
from transforms.evaluation.report.page import report_page

BROWSER_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def load_seconds(path: Path, loads: int) -> list[tuple[float, float]]:
    """Return for each load the seconds to the load event, and to the first drawn figure."""
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
            page.wait_for_selector(".js-plotly-plot")
            found.append((loaded / 1000, page.evaluate("performance.now()") / 1000))
            page.close()
        browser.close()
    return found


def main() -> None:
    """Run from a command line."""
    parser = command_line("report", __doc__)
    parser.add_argument("--clusters", type=int, default=761, help="of the synthetic evaluation")
    parser.add_argument("--loads", type=int, default=5, help="times to load the page")
    flags = parser.parse_args()
    data = synthetic_report(flags.clusters)
    begun = time.monotonic()
    content = report_page(data).encode()
    print(f"page written in {time.monotonic() - begun:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.html"
        path.write_bytes(content)
        loads = load_seconds(path, flags.loads)
    rows = [
        [str(number), f"{loaded:.2f}", f"{drawn:.2f}"]
        for number, (loaded, drawn) in enumerate(loads, 1)
    ]
    print_table(["load", "loaded after s", "first figure after s"], rows)
    figures = {
        "load_s": round(max(loaded for loaded, _ in loads), 3),
        "size_mib": round(len(content) / 2**20, 2),
        "clusters": flags.clusters,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
