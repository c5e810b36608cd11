"""Measures build_clusters on millions of items: items per second, and how memory grows with them.

It runs on a tenth of the items and on all. `peak_growth_10x_items` is the ratio of the two memory
peaks: 1 would be memory that does not depend on the number of items.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common.output import command_line, print_table, say, say_start
from benchmarks.common.processes import Usage, run_measured
from benchmarks.common.synthetic_log import numbered_ids
from pipelines.launch.flag_types import whole_number
from transforms import schemas as col

DIMENSION = 256
_TOPICS = 2_000
_SPREAD = 0.7  # of an item around its topic, whose own coordinates have deviation 1
_ROW_GROUP = (1 << 26) // (4 * DIMENSION)  # items: 64 MB of embeddings
_LOG_ROWS = 1 << 20
_USERS = 200_000
_SKEW = 3.0  # item number = items * uniform ** this: few items have most of the traffic
_BYTES_PER_ITEM = 5_000  # of disk, for the input and the temporary files of build_clusters
_FIRST, _SECONDS = 1_767_225_600, 90 * 86_400


def write_items(path: Path, items: int, seed: int = 0) -> None:
    """Write items with short titles and embeddings around topics, row group by row group."""
    rng = np.random.default_rng([seed, 1])
    topics = rng.standard_normal((_TOPICS, DIMENSION), np.float32)
    schema = pa.schema([col.ITEMS.field(name) for name in (col.ITEM_ID, col.TITLE, col.EMBEDDING)])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, items, _ROW_GROUP):
            count = min(_ROW_GROUP, items - start)
            topic = rng.integers(0, _TOPICS, count)
            noise = rng.standard_normal((count, DIMENSION), np.float32)
            rows = topics[topic] + np.float32(_SPREAD) * noise
            offsets = np.arange(count + 1, dtype=np.int32) * DIMENSION
            titles = [f"topic{number} kind{number % 97}" for number in topic.tolist()]
            embeddings = pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))
            ids = numbered_ids("i", np.arange(start, start + count))
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
            users = numbered_ids("u", rng.integers(0, _USERS, count))
            numbers = (items * rng.random(count) ** _SKEW).astype(np.int64)
            times = _FIRST + rng.integers(0, _SECONDS, count)
            writer.write_table(pa.table([users, numbered_ids("i", numbers), times], schema=schema))


def measure(folder: Path, items: int, interactions: int, build_flags: list[str]) -> Usage:
    """Write the input, run build_clusters on it in its own process, and delete both."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        say(f"writing {items:,} items and {interactions:,} interactions")
        write_items(folder / "items.parquet", items)
        write_log(folder / "log.parquet", items, interactions)
        say_start("build_clusters")
        command = [
            *(sys.executable, "-m", "pipelines.build_clusters"),
            f"--workspace={folder / 'workspace'}",
            f"--items={folder / 'items.parquet'}",
            f"--interactions={folder / 'log.parquet'}",
        ]
        return run_measured([*command, *build_flags], folder)
    finally:
        shutil.rmtree(folder)


def check_disk(folder: Path, items: int) -> None:
    """Exit with a message, before hours are spent, if the disk is too small for the items."""
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
    """Run both sizes, print the table and return the figures of the last line."""
    runs = {size: measure(folder, size, interactions, build_flags) for size in (items // 10, items)}
    rows = []
    for size, run in runs.items():
        used = [f"{run.memory_gib:.2f}", f"{run.disk_gib:.1f}"]
        rows.append([f"{size:,}", f"{run.seconds:.1f}", f"{size / run.seconds:,.0f}", *used])
    print_table(["items", "seconds", "per second", "GiB", "disk GiB"], rows)
    tenth, whole = runs.values()
    return {
        "items_per_s": items / whole.seconds,
        "peak_gib": whole.memory_gib,
        "peak_disk_gib": whole.disk_gib,
        "peak_growth_10x_items": whole.memory_gib / tenth.memory_gib,
    }


def main() -> None:
    """Run from a command line."""
    parser = command_line("cluster_assignment", __doc__)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build/bench/cluster_assignment"),
        help="folder of the input, deleted at the end; about 5 KB per item",
    )
    parser.add_argument(
        "--items", type=whole_number(10_000), default=2_000_000, help="items of the larger run"
    )
    parser.add_argument(
        "--interactions", type=whole_number(1), default=3_000_000, help="interactions of each run"
    )
    parser.add_argument("--clusters", default="8,64,761", help="flag of build_clusters")
    parser.add_argument(
        "--cluster_sample_size",
        type=whole_number(1),
        default=200_000,
        help="flag of build_clusters; a small sample, with few clusters, shows the time of the "
        "rest of the stage",
    )
    flags = parser.parse_args()
    check_disk(flags.folder, flags.items)
    build_flags = [
        f"--clusters={flags.clusters}",
        f"--cluster_sample_size={flags.cluster_sample_size}",
    ]
    print(json.dumps(compare(flags.folder, flags.items, flags.interactions, build_flags)))


if __name__ == "__main__":
    main()
