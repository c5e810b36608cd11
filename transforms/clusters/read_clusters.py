"""The clusters and their items, as the pipelines after build_clusters read them."""

from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import schemas as col
from transforms.errors import InputError
from transforms.storage import files


def read_descriptions(clusters: str, level: int) -> list[str]:
    """Read the descriptions of the clusters of a level, by id, from the folder of the stage."""
    table = files.read_parquet(files.join(clusters, "clusters.parquet"), col.CLUSTERS)
    of_level = table.filter(pc.equal(table[col.LEVEL], level)).sort_by(col.CLUSTER_ID)
    return of_level[col.DESCRIPTION].to_pylist()


def resolve_level(clusters: str, level: int | None) -> int:
    """Return the level asked for, by default the finest; InputError for one that is not there."""
    table = files.read_parquet(files.join(clusters, "clusters.parquet"), col.CLUSTERS)
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
    """Read the items and the cluster of each at a level.

    Returns
    -------
    item ids [items], sorted, and clusters [items] int32.
    """
    table = files.read_parts(files.join(clusters, "item_clusters"), col.ITEM_CLUSTERS).sort_by(
        col.ITEM_ID
    )
    cluster = pc.list_element(table[col.CLUSTER_IDS], level)
    return table[col.ITEM_ID].combine_chunks(), cluster.to_numpy().astype(np.int32)


def read_titles(clusters: str) -> list[str]:
    """Read the title of each item (its id, without one), in the order of the items' ids."""
    table = _read_catalogue(clusters)
    return pc.if_else(
        pc.fill_null(pc.equal(table[col.TITLE], ""), True), table[col.ITEM_ID], table[col.TITLE]
    ).to_pylist()


def read_eligible(clusters: str) -> np.ndarray:
    """Read which items may be recommended, [items] bool, in the order of the items' ids."""
    eligible = _read_catalogue(clusters)[col.ELIGIBLE].combine_chunks()
    return eligible.to_numpy(zero_copy_only=False).astype(bool)


def _read_catalogue(clusters: str) -> pa.Table:
    return files.read_parts(files.join(clusters, "catalogue"), col.CATALOGUE).sort_by(col.ITEM_ID)


def read_item_features(clusters: str) -> np.ndarray:
    """Read what each item is about, [items, F] float32, in the order of the items' ids."""
    table = files.read_parts(files.join(clusters, "item_features"), col.ITEM_FEATURES).sort_by(
        col.ITEM_ID
    )
    lists = table[col.FEATURES].combine_chunks()
    return pc.list_flatten(lists).to_numpy().reshape(len(lists), -1)


def read_cluster_embeddings(clusters: str, level: int) -> np.ndarray:
    """Read what each cluster of a level is about, [M, F]: the sum of its items' features."""
    import scipy.sparse

    _, cluster = read_item_clusters(clusters, level)
    features = read_item_features(clusters)
    ones, items = np.ones(len(cluster), np.float32), np.arange(len(cluster))
    shape = (len(read_descriptions(clusters, level)), len(cluster))
    return scipy.sparse.csr_matrix((ones, (cluster, items)), shape) @ features


@dataclass(eq=False)
class ReadItemClusters(beam.PTransform):
    """Reads `read_item_clusters` on a worker, as a single element, for a side input."""

    clusters: str
    level: int

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        return (
            begin | beam.Create([(self.clusters, self.level)]) | beam.MapTuple(read_item_clusters)
        )
