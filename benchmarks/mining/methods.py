"""Ways to count the transitions of a log: ours, DuckDB's SQL, and Beam element by element.

`python -m benchmarks.mining.methods METHOD LOG CLUSTERS OUTPUT` runs one and prints what it took.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks.common.processes import peak_memory_gib
from pipelines.launch.runner import with_default_runner
from pipelines.mine_transitions import STAGE
from transforms import schemas as col
from transforms.clusters.read_clusters import ReadItemClusters
from transforms.inputs.interactions import ReadInteractions
from transforms.inputs.sources import find_source
from transforms.tables.shuffle import ShardBy
from transforms.tables.write_tables import WriteShards, map_shards
from transforms.transitions.mine import count_transitions, mine_transitions, sum_counts
from transforms.transitions.user_sequences import SequenceParts

SHARDS = 4


def ours(log: str, clusters: str, output: str) -> None:
    """Run the transforms of mine_transitions, from the log to the counts of all users."""
    with _pipeline(STAGE.threads) as pipeline:
        item_clusters = pipeline | "Clusters" >> ReadItemClusters(clusters, level=0)
        interactions = pipeline | ReadInteractions(find_source(log, "interactions"), item_clusters)
        (
            interactions.usable
            | SequenceParts(None, 0, item_clusters)
            | "Mine"
            >> beam.Map(
                lambda part, items: count_transitions(mine_transitions(part[1], items[1])),
                beam.pvalue.AsSingleton(item_clusters),
            ).with_output_types(pa.Table)
            | "ByLabel" >> ShardBy(col.NOVEL, SHARDS, col.TRANSITION_COUNTS)
            | "Sum" >> map_shards(sum_counts)
            | WriteShards(output, "", SHARDS)
        )


def duckdb(log: str, clusters: str, output: str) -> None:
    """Run one SQL statement in DuckDB, on all cores; no two times of the log are equal."""
    import duckdb

    with tempfile.TemporaryDirectory() as spill, duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(f"SET temp_directory = '{spill}'")
        connection.execute(
            f"""
            COPY (
                WITH engagement AS (
                    SELECT user_id, timestamp, item_id, cluster_ids[1] AS cluster
                    FROM '{log}' JOIN '{clusters}/item_clusters/*.parquet' USING (item_id)
                ), after AS (
                    SELECT *, lag(cluster) OVER (
                        PARTITION BY user_id ORDER BY timestamp
                    ) AS c2
                    FROM engagement
                ), run AS (
                    SELECT user_id, cluster, c2, lag(c2) OVER in_time AS c1,
                        row_number() OVER (
                            PARTITION BY user_id, cluster ORDER BY timestamp
                        ) AS nth
                    FROM after
                    WHERE c2 IS DISTINCT FROM cluster
                    WINDOW in_time AS (PARTITION BY user_id ORDER BY timestamp)
                )
                SELECT coalesce(c1, c2) AS c1, c2, cluster AS novel, count(*) AS users
                FROM run
                WHERE nth = 1 AND c2 IS NOT NULL
                GROUP BY ALL
            ) TO '{output}/counts.parquet'
            """
        )


def per_element(log: str, clusters: str, output: str) -> None:
    """Run Beam as in its guide: each interaction, transition and count is an element."""
    items = pq.read_table(f"{clusters}/item_clusters").to_pylist()
    cluster_of = {item["item_id"]: item["cluster_ids"][0] for item in items}

    def by_user(row: dict) -> tuple[str, tuple]:
        item = row["item_id"]
        return row["user_id"], (row["timestamp"], item, cluster_of[item])

    with _pipeline(threads=False) as pipeline:
        (
            pipeline
            | beam.io.ReadFromParquet(log)
            | beam.Map(by_user)
            | beam.GroupByKey()
            | beam.FlatMapTuple(lambda _, engagements: _transitions(engagements))
            | beam.combiners.Count.PerElement()
            | beam.MapTuple(
                lambda ids, users: dict(
                    zip(col.TRANSITION_COUNTS.names, (*ids, users), strict=True)
                )
            )
            | beam.io.WriteToParquet(f"{output}/counts", col.TRANSITION_COUNTS)
        )


def _transitions(engagements: Iterable[tuple]) -> Iterator[tuple[int, int, int]]:
    latest: dict[int, None] = {}  # clusters, the one of the latest engagement last
    for _, _, cluster in sorted(engagements):
        if latest and cluster not in latest:
            known = list(latest)[-2:]
            yield known[0], known[-1], cluster
        latest.pop(cluster, None)
        latest[cluster] = None


def _pipeline(threads: bool) -> beam.Pipeline:
    """Return a pipeline with the runner of a stage."""
    flags = [f"--shuffle_folder={tempfile.mkdtemp()}"]
    return beam.Pipeline(options=PipelineOptions(with_default_runner(flags, threads)))


METHODS: dict[str, Callable[[str, str, str], None]] = {
    "ours": ours,
    "duckdb": duckdb,
    "per_element": per_element,
}


def main(method: str, log: str, clusters: str, output: str) -> None:
    """Run a method in this process and print its seconds and peak memory as JSON."""
    begun = time.monotonic()
    METHODS[method](log, clusters, output)
    seconds = time.monotonic() - begun
    print(json.dumps({"seconds": seconds, "gib": peak_memory_gib()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
