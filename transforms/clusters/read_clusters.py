"""Reads the clusters and their items, for the pipelines after build_clusters."""

from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import schemas as col
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.stage_files import read_parts


def read_descriptions(clusters: str, level: int) -> list[str]:
    """Read the descriptions of the clusters of a level, by id, from the folder of the stage."""
    table = _read_clusters(clusters)
    of_level = table.filter(pc.equal(table[col.LEVEL], level)).sort_by(col.CLUSTER_ID)
    return of_level[col.DESCRIPTION].to_pylist()


def resolve_level(clusters: str, level: int | None) -> int:
    """Return the given level, by default the finest; InputError for a level that is not usable."""
    table = _read_clusters(clusters)
    finest = pc.max(table[col.LEVEL]).as_py()
    if level is None:
        return finest
    if not 0 <= level <= finest:
        raise InputError(f"--level={level}: the tree has the levels 0 (coarsest) to {finest}")
    size = pc.sum(pc.equal(table[col.LEVEL], level)).as_py()
    if size < 3:
        raise InputError(f"--level={level} has {size} clusters: take a finer one, with at least 3")
    return level


def read_item_clusters(clusters: str, level: int) -> tuple[pa.Array, np.ndarray]:
    """Read the item ids [items], sorted, and the cluster of each at a level [items] int32."""
    table = _read_items(clusters, "item_clusters", col.ITEM_CLUSTERS)
    cluster = pc.list_element(table[col.CLUSTER_IDS], level)
    return table[col.ITEM_ID].combine_chunks(), cluster.to_numpy().astype(np.int32)


def read_titles(clusters: str) -> list[str]:
    """Read the title of each item, by item id; an item without a title gets its id."""
    table = _read_items(clusters, "catalogue", col.CATALOGUE)
    return pc.if_else(
        pc.fill_null(pc.equal(table[col.TITLE], ""), True), table[col.ITEM_ID], table[col.TITLE]
    ).to_pylist()


def read_eligible(clusters: str) -> np.ndarray:
    """Read whether each item may be recommended, [items] bool, by item id."""
    table = _read_items(clusters, "catalogue", col.CATALOGUE)
    return table[col.ELIGIBLE].combine_chunks().to_numpy(zero_copy_only=False).astype(bool)


def read_item_features(clusters: str) -> np.ndarray:
    """Read the features of each item, [items, F] float32, by item id."""
    table = _read_items(clusters, "item_features", col.ITEM_FEATURES)
    lists = table[col.FEATURES].combine_chunks()
    return pc.list_flatten(lists).to_numpy().reshape(len(lists), -1)


def read_cluster_embeddings(clusters: str, level: int) -> np.ndarray:
    """Sum the features of the items of each cluster of a level, [M, F]."""
    import scipy.sparse

    _, cluster = read_item_clusters(clusters, level)
    features = read_item_features(clusters)
    ones, items = np.ones(len(cluster), np.float32), np.arange(len(cluster))
    shape = (len(read_descriptions(clusters, level)), len(cluster))
    return scipy.sparse.csr_matrix((ones, (cluster, items)), shape) @ features


def _read_clusters(clusters: str) -> pa.Table:
    return files.read_parquet(files.join(clusters, "clusters.parquet"), col.CLUSTERS)


def _read_items(clusters: str, name: str, schema: pa.Schema) -> pa.Table:
    return read_parts(clusters, name, schema).sort_by(col.ITEM_ID)


@dataclass(eq=False)
class ReadItemClusters(beam.PTransform):
    """Runs `read_item_clusters` on a worker: a single element, for a side input."""

    clusters: str
    level: int

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        return (
            begin | beam.Create([(self.clusters, self.level)]) | beam.MapTuple(read_item_clusters)
        )
