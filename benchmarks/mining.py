"""Compares ways to count a log's transitions: interactions a second, memory, and how time grows."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.interaction_log import write_items, write_log
from benchmarks.mining_ways import WAYS
from benchmarks.progress import say
from pipelines.launch.flag_types import whole_number
from transforms import schemas as col

INTERACTIONS_PER_USER = 40
SMALL, LARGE, HUGE = 1_000_000, 20_000_000, 100_000_000


@dataclass(frozen=True)
class Measured:
    """What one run of a way took.

    Attributes
    ----------
    seconds
        From the log to the written counts, in a process that has started and imported.
    gib
        The most memory that the process had at a time.
    counts
        The TRANSITION_COUNTS.
    """

    seconds: float
    gib: float
    counts: pa.Table


def measure(way: str, log: Path, clusters: Path) -> Measured:
    """Run a way in a process of its own."""
    with tempfile.TemporaryDirectory(dir=log.parent) as folder:
        output, temporary = Path(folder, "output"), Path(folder, "temporary")
        output.mkdir()
        temporary.mkdir()
        say(f"{way}: {log.stem} (load before: {os.getloadavg()[0]:.1f})")
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.mining", f"--way={way}", log, clusters, output],
            env=os.environ | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        figures = json.loads(done.stdout.splitlines()[-1])
        say(f"{way}: done in {figures['seconds']:.1f} s, {figures['gib']:.2f} GiB at most")
        counts = pq.read_table(output).select(col.TRANSITION_COUNTS.names)
    by_key = [(name, "ascending") for name in (col.NOVEL, col.C1, col.C2)]
    return Measured(**figures, counts=counts.cast(col.TRANSITION_COUNTS).sort_by(by_key))


def run(way: str, log: str, clusters: str, output: str) -> None:
    """Run a way in this process and print what it took."""
    begun = time.monotonic()
    WAYS[way](log, clusters, output)
    seconds = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of KiB
    print(json.dumps({"seconds": seconds, "gib": peak}))


def prepare(folder: Path, interactions: int) -> Path:
    """Make a log, unless it is there."""
    log = folder / f"log-{interactions}.parquet"
    if not log.exists():
        say(f"making {log}")
        unfinished = log.with_suffix(".unfinished")
        write_log(unfinished, interactions, interactions // INTERACTIONS_PER_USER)
        unfinished.rename(log)
    return log


def compare(folder: Path, small: int, large: int, huge: int, repeats: int) -> dict[str, object]:
    """Run everything, print the table, and return the figures of the last line."""
    clusters = folder / "clusters"
    (clusters / "item_clusters").mkdir(parents=True, exist_ok=True)
    write_items(clusters / "item_clusters/items.parquet")
    logs = {size: prepare(folder, size) for size in (small, large, huge)}
    found: dict[tuple[str, int], list[Measured]] = {}
    plan = [
        ("ours", small),
        ("per_element", small),
        *[("ours", large), ("duckdb", large)] * repeats,
    ]
    for way, size in [*plan, ("ours", huge)]:
        found.setdefault((way, size), []).append(measure(way, logs[size], clusters))
    seconds = {key: statistics.median(one.seconds for one in runs) for key, runs in found.items()}
    print(
        f"{'':14}{'interactions':>14}{'seconds':>10}{'of each run':>24}{'per second':>13}{'GiB':>7}"
    )
    for (way, size), runs in found.items():
        each = " ".join(f"{one.seconds:.1f}" for one in runs)
        print(
            f"{way:14}{size:>14,}{seconds[way, size]:>10.1f}{each:>24}"
            f"{size / seconds[way, size]:>13,.0f}{max(one.gib for one in runs):>7.2f}"
        )
    speed = large / seconds["ours", large]
    return {
        "interactions_per_s": speed,
        "vs_duckdb": seconds["duckdb", large] / seconds["ours", large],
        "vs_per_element": speed / (small / seconds["per_element", small]),
        "identical": all(
            one.counts.equals(found["ours", size][0].counts)
            for (_, size), runs in found.items()
            for one in runs
        ),
        "peak_gib": max(
            one.gib for (way, _), runs in found.items() for one in runs if way == "ours"
        ),
        "time_100m_over_20m": seconds["ours", huge] / seconds["ours", large],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mining", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build/bench/mining"),
        help="where the logs are made, 2 GB; those that are there are kept (default: %(default)s)",
    )
    for name, size in (("small", SMALL), ("large", LARGE), ("huge", HUGE)):
        parser.add_argument(
            f"--{name}",
            type=whole_number(1000),
            default=size,
            help=f"interactions of the {name} log (default: {size:,})",
        )
    parser.add_argument(
        "--repeats",
        type=whole_number(1),
        default=3,
        help="runs of ours and of DuckDB on the large log, for a median (default: %(default)s)",
    )
    flags = parser.parse_args(argv)
    sizes = (flags.small, flags.large, flags.huge)
    print(json.dumps(compare(flags.folder, *sizes, flags.repeats)))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("--way="):
        run(sys.argv[1].removeprefix("--way="), *sys.argv[2:])
        sys.exit(0)
    sys.exit(main())
