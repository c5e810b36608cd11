"""Reads the clusters of an earlier run, which a fit starts from."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import schemas as col
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.stage_files import read_parts


@dataclass(frozen=True)
class PreviousClusters:
    """The clusters of an earlier run."""

    cluster_ids: np.ndarray  # [items, levels] int64; -1 for items that were not in the run
    parents: tuple[np.ndarray, ...]  # per level [n_level] int32, -1 at level 0
    keywords: tuple[list[list[str]], ...]  # per level, of each cluster


def read_previous(folder: str, item_ids: pa.ChunkedArray) -> PreviousClusters:
    """Read the clusters of an earlier run; InputError if it has none of the items."""
    clusters = files.read_parquet(files.join(folder, "clusters.parquet"), col.CLUSTERS)
    levels = [
        clusters.filter(pc.equal(clusters[col.LEVEL], level))
        for level in sorted(pc.unique(clusters[col.LEVEL]).to_pylist())
    ]
    items = read_parts(folder, "item_clusters", col.ITEM_CLUSTERS)
    at = pc.index_in(item_ids, value_set=items[col.ITEM_ID].combine_chunks())
    known = pc.is_valid(at).to_numpy()
    if not known.any():
        raise InputError(
            f"--previous_workspace: {folder} knows none of the items; name the workspace of an "
            "earlier run on these items, or leave it out"
        )
    lists = items[col.CLUSTER_IDS].combine_chunks().take(pc.drop_null(at).combine_chunks())
    cluster_ids = np.full((len(known), len(levels)), -1)
    cluster_ids[known] = pc.list_flatten(lists).to_numpy().reshape(-1, len(levels))
    return PreviousClusters(
        cluster_ids,
        tuple(pc.fill_null(of[col.PARENT_ID], -1).to_numpy() for of in levels),
        tuple(of[col.KEYWORDS].to_pylist() for of in levels),
    )
