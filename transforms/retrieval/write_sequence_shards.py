"""Writes the users' sequences as shards for the training of the retriever."""

from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from models.retrieval.item_catalogue import vocabulary
from models.retrieval.training.sequence_shards import SHARD, cut_into_groups, shard_schema
from transforms import schemas as col
from transforms.storage import files
from transforms.tables.sharding import stable_hash
from transforms.tables.shuffle import PARTS
from transforms.tables.write_tables import shard_file


def shard_rows(sequences: pa.Table, seed: int) -> pa.Table:
    """Return SEQUENCES as a SHARD: user ids become seeded hashes, timestamps microseconds."""
    keys = (stable_hash(sequences[col.USER_ID], seed) >> np.uint64(1)).astype(np.int64)
    times = sequences[col.TIMESTAMPS].cast(pa.list_(pa.int64()))
    return pa.table([pa.array(keys), sequences[col.ITEMS_OF_USER], times], schema=SHARD)


@dataclass(eq=False)
class WriteSequenceShards(beam.PTransform):
    """(part, SEQUENCES) -> the paths of the shards, one for each part.

    A part has the same name and bytes each time: a retry writes the same file.
    """

    folder: str
    seed: int  # of the hash that chooses the validation users
    item_clusters: beam.PCollection  # of one tuple: the ids and the clusters of the items

    def expand(self, parts: beam.PCollection[tuple[int, pa.Table]]) -> beam.PCollection[str]:
        fingerprint = self.item_clusters | "Vocabulary" >> beam.MapTuple(vocabulary)
        return parts | "Write" >> beam.Map(
            _write, beam.pvalue.AsSingleton(fingerprint), self.folder, self.seed
        ).with_output_types(str)


def _write(numbered: tuple[int, pa.Table], fingerprint: str, folder: str, seed: int) -> str:
    part, sequences = numbered
    name, rows = shard_file(part, PARTS), shard_rows(sequences, seed)
    files.write_row_groups(folder, name, shard_schema(fingerprint), cut_into_groups(rows))
    Metrics.counter(WriteSequenceShards, "users_written").inc(rows.num_rows)
    items = pc.sum(pc.list_value_length(rows[1])).as_py() or 0
    Metrics.counter(WriteSequenceShards, "interactions_written").inc(items)
    return files.join(folder, name)
