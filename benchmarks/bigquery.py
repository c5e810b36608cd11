"""Compares ways to read a BigQuery table into a pipeline: rows per second, on the emulator."""

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from benchmarks.common.output import command_line, print_table, say
from emulators.clouds import Cloud, cloud_emulators
from emulators.tables import load
from pipelines.launch.flag_types import whole_number
from transforms.inputs.sources import find_source

OURS, DIRECT_READ, EXPORT = "ours", "Beam, DIRECT_READ", "Beam, EXPORT"
WARM_UP_ROWS = 1_000
Reader = Callable[[beam.Pipeline], beam.PCollection[int]]  # numbers of rows, to be summed


def synthetic_interactions(rows: int) -> pa.Table:
    """Return a log of random interactions."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 100_000, rows), rng.integers(0, 10_000, rows)
    times = pa.array(1_700_000_000_000_000 + rng.integers(0, 10**13, rows))
    return pa.table(
        {
            "user_id": pa.array(users).cast(pa.string()),
            "item_id": pa.array(items).cast(pa.string()),
            "timestamp": times.cast(pa.timestamp("us", tz="UTC")),
            "rating": pa.array(rng.integers(1, 6, rows).astype(np.float64)),
        }
    )


def readers(table: str, cloud: Cloud) -> dict[str, Reader]:
    """Return the readers that are compared, by name."""
    source = find_source(f"bq://{table}", "interactions")

    def ours(pipeline: beam.Pipeline) -> beam.PCollection[int]:
        return pipeline | source.read() | beam.Map(lambda batch: batch.num_rows)

    def beams(method: str, **options: Any) -> Reader:
        read = beam.io.ReadFromBigQuery(table=table.replace(".", ":", 1), method=method, **options)
        return lambda pipeline: pipeline | read | beam.combiners.Count.Globally()

    return {
        OURS: ours,
        # With native datetimes it reads Arrow, which is faster than its default, Avro.
        DIRECT_READ: beams("DIRECT_READ", use_native_datetime=True),
        EXPORT: beams("EXPORT", gcs_location=f"gs://{cloud.bucket}/export"),
    }


def read_seconds(reader: Reader, rows: int) -> float:
    """Run a pipeline, start included, that reads the table and checks the number of rows."""

    def check(found: int) -> None:
        if found != rows:
            raise ValueError(f"{found:,} rows were read instead of {rows:,}")

    begun = time.monotonic()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        reader(pipeline) | "Sum" >> beam.CombineGlobally(sum) | "Check" >> beam.Map(check)
    return time.monotonic() - begun


def redirect_beam() -> None:
    """Send Beam's own BigQuery IO to the emulator; Beam has no setting for it."""
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


def compare(rows: int, repeats: int) -> dict[str, float]:
    """Run all readers in turn, print the table, and return the figures of the last line."""
    with cloud_emulators() as cloud:
        redirect_beam()
        times: dict[str, list[float]] = {name: [] for name in (OURS, DIRECT_READ, EXPORT)}
        # A small table first, whose times do not count: its runs import all modules.
        for size, rounds in ((WARM_UP_ROWS, 1), (rows, repeats)):
            table = f"{cloud.dataset}.log"
            load(table, synthetic_interactions(size))
            compared = readers(table, cloud)
            for name in rounds * list(compared):
                taken = read_seconds(compared[name], size)
                say(f"{name}, {size:,} rows: {taken:.1f} s")
                if size == rows:
                    times[name].append(taken)
    speeds = {name: rows / statistics.median(runs) for name, runs in times.items()}
    print_table(
        ["reader", "rows/s", "ours is"],
        [[name, f"{speed:,.0f}", f"{speeds[OURS] / speed:.1f}x"] for name, speed in speeds.items()],
    )
    return {
        "rows_per_s": round(speeds[OURS]),
        "vs_beam_direct_read": round(speeds[OURS] / speeds[DIRECT_READ], 2),
        "vs_beam_export": round(speeds[OURS] / speeds[EXPORT], 2),
        "rows": rows,
    }


def main() -> None:
    """Run from a command line."""
    parser = command_line("bigquery", f"{__doc__} The last line is one JSON object.")
    parser.add_argument(
        "--rows", type=whole_number(WARM_UP_ROWS + 1), default=1_000_000, help="of the table"
    )
    parser.add_argument("--repeats", type=whole_number(1), default=3, help="runs, for a median")
    flags = parser.parse_args()
    print(json.dumps(compare(flags.rows, flags.repeats)))


if __name__ == "__main__":
    main()
