"""Compares ways to count a log's transitions: interactions per second, memory, growth of time."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common.complete_stage import complete_stage
from benchmarks.common.output import command_line, print_table, say, say_start
from benchmarks.common.synthetic_log import prepare_log, write_items
from pipelines.launch.flag_types import whole_number
from transforms import schemas as col

INTERACTIONS_PER_USER = 40
SIZES = {"small": 1_000_000, "large": 20_000_000, "huge": 100_000_000}


@dataclass(frozen=True)
class Run:
    """One run of a method."""

    seconds: float  # from the log to the written counts, without start and imports
    gib: float  # peak memory of the process
    counts: pa.Table  # TRANSITION_COUNTS


def run_method(method: str, log: Path, clusters: Path) -> Run:
    """Run a method in its own process."""
    with tempfile.TemporaryDirectory(dir=log.parent) as folder:
        output, temporary = Path(folder, "output"), Path(folder, "temporary")
        output.mkdir()
        temporary.mkdir()
        say_start(f"{method}: {log.stem}")
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.mining.methods", method, log, clusters, output],
            env=os.environ | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        figures = json.loads(done.stdout.splitlines()[-1])
        say(f"{method}: done in {figures['seconds']:.1f} s, {figures['gib']:.2f} GiB at most")
        counts = pq.read_table(output).select(col.TRANSITION_COUNTS.names)
    by_key = [(name, "ascending") for name in (col.NOVEL, col.C1, col.C2)]
    return Run(**figures, counts=counts.cast(col.TRANSITION_COUNTS).sort_by(by_key))


def compare(folder: Path, small: int, large: int, huge: int, repeats: int) -> dict[str, object]:
    """Run everything, print the table, and return the figures of the last line."""
    clusters = folder / "clusters"
    (clusters / "item_clusters").mkdir(parents=True, exist_ok=True)
    write_items(clusters / "item_clusters/items.parquet")
    complete_stage(clusters, {})
    logs = {
        size: prepare_log(folder, size, size // INTERACTIONS_PER_USER)
        for size in (small, large, huge)
    }
    plan = [
        ("ours", small),
        ("per_element", small),
        *[("ours", large), ("duckdb", large)] * repeats,
        ("ours", huge),
    ]
    found: dict[tuple[str, int], list[Run]] = {}
    for method, size in plan:
        found.setdefault((method, size), []).append(run_method(method, logs[size], clusters))
    seconds = {key: statistics.median(run.seconds for run in runs) for key, runs in found.items()}
    rows = []
    for (method, size), runs in found.items():
        median = seconds[method, size]
        each = " ".join(f"{run.seconds:.1f}" for run in runs)
        speed_and_memory = [f"{size / median:,.0f}", f"{max(run.gib for run in runs):.2f}"]
        rows.append([method, f"{size:,}", f"{median:.1f}", each, *speed_and_memory])
    print_table(["", "interactions", "seconds", "of each run", "per second", "GiB"], rows)
    speed = large / seconds["ours", large]
    return {
        "interactions_per_s": speed,
        "vs_duckdb": seconds["duckdb", large] / seconds["ours", large],
        "vs_per_element": speed / (small / seconds["per_element", small]),
        "identical": all(
            run.counts.equals(found["ours", size][0].counts)
            for (_, size), runs in found.items()
            for run in runs
        ),
        "peak_gib": max(
            run.gib for (method, _), runs in found.items() for run in runs if method == "ours"
        ),
        "time_100m_over_20m": seconds["ours", huge] / seconds["ours", large],
    }


def main() -> None:
    """Run from a command line."""
    parser = command_line("mining", __doc__)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build/bench/mining"),
        help="folder of the logs, 2 GB; existing logs are reused",
    )
    for name, size in SIZES.items():
        parser.add_argument(
            f"--{name}",
            type=whole_number(1000),
            default=size,
            help=f"interactions of the {name} log",
        )
    parser.add_argument(
        "--repeats",
        type=whole_number(1),
        default=3,
        help="runs of ours and of DuckDB on the large log, for a median",
    )
    print(json.dumps(compare(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
