"""Measures build_clusters on millions of items: items a second, and how memory grows with them."""

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.progress import say
from pipelines.launch.flag_types import whole_number
from transforms import schemas as col

ITEMS, INTERACTIONS = 2_000_000, 3_000_000
DIMENSION = 256
CLUSTERS, FIT_SAMPLE = "8,64,761", 200_000
_TOPICS = 2_000
_SPREAD = 0.7  # of an item around its topic, whose own coordinates have deviation 1
_ROW_GROUP = (1 << 26) // (4 * DIMENSION)  # items: 64 MB of embeddings
_LOG_ROWS = 1 << 20
_USERS = 200_000
_SKEW = 3.0  # item number = items * uniform ** this: few items have most of the traffic
_BYTES_PER_ITEM = 5_000  # of disk, of the input and of what build_clusters keeps meanwhile
_SECONDS_PER_LINE = 30.0
_FIRST, _SECONDS = 1_767_225_600, 90 * 86_400


@dataclass(frozen=True)
class Measured:
    """What one run took.

    Attributes
    ----------
    seconds
        Of the whole process, with start and imports.
    gib
        The most memory that it, or a child of it, had at a time.
    disk_gib
        The most that input and workspace took on the disk at a time, looked at twice a second.
    """

    seconds: float
    gib: float
    disk_gib: float


def write_items(path: Path, items: int, seed: int = 0) -> None:
    """Write items with short titles and embeddings around topics, row group by row group."""
    rng = np.random.default_rng([seed, 1])
    topics = rng.standard_normal((_TOPICS, DIMENSION), np.float32)
    schema = pa.schema([col.ITEMS.field(name) for name in (col.ITEM_ID, col.TITLE, col.EMBEDDING)])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, items, _ROW_GROUP):
            if start and start % (16 * _ROW_GROUP) == 0:
                say(f"{start:,} items made")
            count = min(_ROW_GROUP, items - start)
            topic = rng.integers(0, _TOPICS, count)
            noise = rng.standard_normal((count, DIMENSION), np.float32)
            rows = topics[topic] + np.float32(_SPREAD) * noise
            offsets = np.arange(count + 1, dtype=np.int32) * DIMENSION
            titles = [f"topic{of} kind{of % 97}" for of in topic.tolist()]
            embeddings = pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))
            ids = _names("i", np.arange(start, start + count))
            writer.write_table(pa.table([ids, titles, embeddings], schema=schema))


def write_log(path: Path, items: int, interactions: int, seed: int = 0) -> None:
    """Write a log of these items, row group by row group."""
    rng = np.random.default_rng([seed, 2])
    schema = pa.schema(
        {col.USER_ID: pa.string(), col.ITEM_ID: pa.string(), col.TIMESTAMP: pa.int64()}
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, interactions, _LOG_ROWS):
            count = min(_LOG_ROWS, interactions - start)
            users = _names("u", rng.integers(0, _USERS, count))
            numbers = (items * rng.random(count) ** _SKEW).astype(np.int64)
            times = _FIRST + rng.integers(0, _SECONDS, count)
            writer.write_table(pa.table([users, _names("i", numbers), times], schema=schema))


def _names(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pa.array([f"{prefix}{number:08d}" for number in numbers.tolist()], pa.string())


def measure(folder: Path, items: int, interactions: int, build_flags: list[str]) -> Measured:
    """Make the input, run build_clusters on it in a process of its own, and delete both."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        say(f"making {items:,} items and {interactions:,} interactions")
        write_items(folder / "items.parquet", items)
        write_log(folder / "log.parquet", items, interactions)
        say(f"build_clusters (load before: {os.getloadavg()[0]:.1f})")
        begun = time.monotonic()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pipelines.build_clusters"),
                f"--workspace={folder / 'workspace'}",
                f"--items={folder / 'items.parquet'}",
                f"--interactions={folder / 'log.parquet'}",
                *build_flags,
            ],
            stdout=sys.stderr,
        )
        status, usage, disk_gib = _watched(process, folder)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begun
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, "build_clusters")
    finally:
        shutil.rmtree(folder)
    measured = Measured(seconds, usage.ru_maxrss / 2**20, disk_gib)  # of KiB
    say(f"{items:,} items: {seconds:.1f} s, {measured.gib:.2f} GiB, {disk_gib:.1f} GiB of disk")
    return measured


def _watched(
    process: subprocess.Popen[bytes], folder: Path
) -> tuple[int, resource.struct_rusage, float]:
    """Wait for a process, saying how it goes; return its status, usage and the folder's peak."""
    begun = said = time.monotonic()
    most = 0.0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        gib = _gib(folder)
        most = max(most, gib)
        if pid:
            return status, usage, most
        if time.monotonic() - said >= _SECONDS_PER_LINE:
            said = time.monotonic()
            say(f"build_clusters: {said - begun:.0f} s, {gib:.1f} GiB of disk")
        time.sleep(0.5)


def _gib(folder: Path) -> float:
    """Return what the files of a folder take on the disk; some come and go meanwhile."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += 512 * os.stat(os.path.join(path, name)).st_blocks
    return total / 2**30


def check_disk(folder: Path, items: int) -> None:
    """Say what is missing, before hours are spent, where a disk has no room for so many items."""
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = items * _BYTES_PER_ITEM, shutil.disk_usage(folder).free
    if needed > free:
        raise SystemExit(
            f"--items={items}: about {needed / 2**30:.0f} GiB of disk are needed and "
            f"{free / 2**30:.0f} are free in {folder}; name another --folder"
        )


def compare(
    folder: Path, items: int, interactions: int, build_flags: list[str]
) -> dict[str, float]:
    """Run with a tenth of the items and with all, print both, and return the last line's figures.

    Peak growth is the peak of all over that of a tenth: 1 would be memory that does not depend on
    the number of items.
    """
    sizes = (items // 10, items)
    runs = [measure(folder, size, interactions, build_flags) for size in sizes]
    print(f"{'items':>12}{'seconds':>10}{'per second':>12}{'GiB':>7}{'disk GiB':>10}")
    for size, run in zip(sizes, runs, strict=True):
        rate = size / run.seconds
        print(f"{size:>12,}{run.seconds:>10.1f}{rate:>12,.0f}{run.gib:>7.2f}{run.disk_gib:>10.1f}")
    tenth, all_items = runs
    return {
        "items_per_s": items / all_items.seconds,
        "peak_gib": all_items.gib,
        "peak_disk_gib": all_items.disk_gib,
        "peak_growth_10x_items": all_items.gib / tenth.gib,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster_assignment", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build/bench/cluster_assignment"),
        help="where items and log are made, and deleted at the end; takes about 5 KB an item "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--items",
        type=whole_number(10_000),
        default=ITEMS,
        help=f"items of the larger run (default: {ITEMS:,})",
    )
    parser.add_argument(
        "--interactions",
        type=whole_number(1),
        default=INTERACTIONS,
        help=f"interactions of either run (default: {INTERACTIONS:,})",
    )
    parser.add_argument(
        "--clusters",
        default=CLUSTERS,
        help="as of build_clusters (default: %(default)s)",
    )
    parser.add_argument(
        "--cluster_sample_size",
        type=whole_number(1),
        default=FIT_SAMPLE,
        help="as of build_clusters; a small one, with few clusters, shows what the rest of the "
        f"stage takes (default: {FIT_SAMPLE:,})",
    )
    flags = parser.parse_args(argv)
    check_disk(flags.folder, flags.items)
    build_flags = [
        f"--clusters={flags.clusters}",
        f"--cluster_sample_size={flags.cluster_sample_size}",
    ]
    print(json.dumps(compare(flags.folder, flags.items, flags.interactions, build_flags)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
