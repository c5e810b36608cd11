"""Compares ways to read a BigQuery table into a pipeline: rows a second, on the emulator."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from emulators.clouds import Cloud, cloud_emulators
from emulators.tables import load
from pipelines.launch.flag_types import whole_number
from transforms.inputs.sources import find_source

OURS, DIRECT_READ, EXPORT = "ours", "Beam, DIRECT_READ", "Beam, EXPORT"
WARM_UP_ROWS = 1_000
Reader = Callable[[beam.Pipeline], beam.PCollection[int]]  # numbers of rows, to be summed


def interactions(rows: int) -> pa.Table:
    """Return a made-up log."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 100_000, rows), rng.integers(0, 10_000, rows)
    return pa.table(
        {
            "user_id": pa.array(users).cast(pa.string()),
            "item_id": pa.array(items).cast(pa.string()),
            "timestamp": pa.array(1_700_000_000_000_000 + rng.integers(0, 10**13, rows)).cast(
                pa.timestamp("us", tz="UTC")
            ),
            "rating": pa.array(rng.integers(1, 6, rows).astype(np.float64)),
        }
    )


def readers(table: str, cloud: Cloud) -> dict[str, Reader]:
    """Return what is compared, by name."""
    source = find_source(f"bq://{table}", "interactions")

    def ours(pipeline: beam.Pipeline) -> beam.PCollection[int]:
        return pipeline | source.read() | beam.Map(lambda batch: batch.num_rows)

    def beams(method: str, **options: Any) -> Reader:
        def read(pipeline: beam.Pipeline) -> beam.PCollection[int]:
            rows = pipeline | beam.io.ReadFromBigQuery(
                table=table.replace(".", ":", 1), method=method, **options
            )
            return rows | beam.combiners.Count.Globally()

        return read

    bucket = f"gs://{cloud.bucket}/export"
    return {
        OURS: ours,
        # With native datetimes it reads Arrow, which is faster than its default, Avro.
        DIRECT_READ: beams("DIRECT_READ", use_native_datetime=True),
        EXPORT: beams("EXPORT", gcs_location=bucket),
    }


def seconds(reader: Reader, rows: int) -> float:
    """Run a pipeline that reads the table, start included; all rows must come."""
    begun = time.monotonic()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        (
            reader(pipeline)
            | "Sum" >> beam.CombineGlobally(sum)
            | "Check" >> beam.Map(_require, rows)
        )
    return time.monotonic() - begun


def _require(found: int, rows: int) -> None:
    if found != rows:
        raise ValueError(f"{found:,} rows came, not {rows:,}")


def redirect_beam() -> None:
    """Send Beam's own IO to the emulator, which no setting does."""
    import grpc
    from apache_beam.io.gcp import bigquery as beam_bigquery
    from apache_beam.io.gcp.internal.clients.bigquery import BigqueryV2
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import (
        BigQueryReadGrpcTransport,
    )

    class Redirected(BigQueryReadClient):
        def __init__(self, **options: Any) -> None:
            channel = grpc.insecure_channel(
                os.environ["BIGQUERY_STORAGE_EMULATOR_HOST"],
                options=[("grpc.max_receive_message_length", -1)],
            )
            transport = BigQueryReadGrpcTransport(channel=channel)
            super().__init__(**{"transport": transport, **options})

    beam_bigquery.bq_storage.BigQueryReadClient = Redirected
    BigqueryV2.BASE_URL = f"{os.environ['BIGQUERY_EMULATOR_HOST']}/bigquery/v2/"


def measure(rows: int, repeats: int) -> dict[str, float]:
    """Run all readers in turn, print the table, and return the figures of the last line."""
    with cloud_emulators() as cloud:
        redirect_beam()
        times: dict[str, list[float]] = {name: [] for name in (OURS, DIRECT_READ, EXPORT)}
        # A small table first, whose times don't count: what is imported then is imported.
        for size, rounds in ((WARM_UP_ROWS, 1), (rows, repeats)):
            table = f"{cloud.dataset}.log"
            load(table, interactions(size))
            compared = readers(table, cloud)
            for name in rounds * list(compared):
                taken = seconds(compared[name], size)
                print(f"{name}, {size:,} rows: {taken:.1f} s", file=sys.stderr, flush=True)
                if size == rows:
                    times[name].append(taken)
    speeds = {name: rows / statistics.median(of_name) for name, of_name in times.items()}
    print(f"{'reader':<20}{'rows/s':>12}{'ours is':>12}")
    for name, speed in speeds.items():
        print(f"{name:<20}{speed:>12,.0f}{speeds[OURS] / speed:>11.1f}x")
    return {
        "rows_per_s": round(speeds[OURS]),
        "vs_beam_direct_read": round(speeds[OURS] / speeds[DIRECT_READ], 2),
        "vs_beam_export": round(speeds[OURS] / speeds[EXPORT], 2),
        "rows": rows,
    }


def main() -> int:
    """Run from a command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bigquery",
        description=f"{__doc__} The last line is one JSON object.",
    )
    parser.add_argument(
        "--rows", type=whole_number(WARM_UP_ROWS + 1), default=1_000_000, help="of the table"
    )
    parser.add_argument("--repeats", type=whole_number(1), default=3, help="the median counts")
    flags = parser.parse_args()
    print(json.dumps(measure(flags.rows, flags.repeats)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
