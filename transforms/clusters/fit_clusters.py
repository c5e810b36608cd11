"""Fits the tree of clusters on a sample of items, and assigns all items to it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.clustering.cluster_matching import Match, match_clusters, renumbered
from models.clustering.cluster_quality import cluster_quality
from models.clustering.cluster_tree import ClusterTree, assign_clusters, traffic_balance
from models.clustering.fit_cluster_tree import fit_cluster_tree
from models.retrieval.item_features import Projection, fit_projection, project
from transforms import schemas as col
from transforms.clusters.fit_sample import TIMES
from transforms.clusters.item_embeddings import as_lists, embeddings_of
from transforms.clusters.previous_clusters import read_previous
from transforms.errors import InputError, as_input_error
from transforms.storage.manifest import RowCounts

log = logging.getLogger("interest-explorer")


@dataclass(frozen=True)
class FittedClusters:
    """A tree of clusters with the results of its fit."""

    tree: ClusterTree  # with the ids of the matched clusters of an earlier run
    projection: Projection  # from embeddings to the features of items
    kept: tuple[dict[int, list[str]], ...]  # per level, the keywords of unchanged clusters
    mapping: pa.Table  # CLUSTER_MAPPING; no rows without an earlier run
    figures: dict[str, Any]  # for the manifest; of the sample, with items weighted by traffic


def fit_tree(
    sample: pa.Table, sizes: Sequence[int], least_items: int, previous: str | None
) -> FittedClusters:
    """Fit the tree of clusters, and the projection that gives items their features.

    `sample` is a TREE_SAMPLE sorted by id, `sizes` has the number of clusters of each level, coarse
    to fine, `least_items` is the number of items that the finest ones should have, and `previous`
    is the folder of the clusters of an earlier run to start from. Raises
    InputError if there are fewer items than clusters, or if the earlier run knows none of them.
    """
    flag = f"--clusters={','.join(map(str, sizes))}: "
    if sample.num_rows < max(sizes):
        raise InputError(
            f"{flag}{max(sizes)} clusters need at least as many items, and only {sample.num_rows} "
            "can be used; ask for fewer clusters"
        )
    rows, traffic = embeddings_of(sample), sample[col.TRAFFIC].to_numpy()
    times = sample[TIMES].to_numpy()
    earlier = None if previous is None else read_previous(previous, sample[col.ITEM_ID])
    start = None if earlier is None else (earlier.cluster_ids[:, -1], earlier.parents)
    with as_input_error(flag):
        tree = fit_cluster_tree(rows, traffic, sizes, times, start, least_items)
    projection = fit_projection(rows, times)
    cluster_ids = assign_clusters(tree, rows)
    weights = times * traffic if traffic.any() else times
    found = [cluster_quality(rows, of_level, weights) for of_level in cluster_ids.T]
    figures = {
        "coherence": [round(quality.coherence, 4) for quality in found],
        "separation": [round(quality.separation, 4) for quality in found],
    }
    if earlier is None:
        nothing: tuple[dict[int, list[str]], ...] = tuple({} for _ in sizes)
        return FittedClusters(tree, projection, nothing, col.CLUSTER_MAPPING.empty_table(), figures)
    known = earlier.cluster_ids[:, 0] >= 0
    matches = [
        match_clusters(old[known], new[known], count)
        for old, new, count in zip(earlier.cluster_ids.T, cluster_ids.T, sizes, strict=True)
    ]
    kept = tuple(
        {int(at): of_level[at] for at in match.old_ids[match.unchanged]}
        for of_level, match in zip(earlier.keywords, matches, strict=True)
    )
    mapping = cluster_mapping(matches[-1])
    return FittedClusters(renumbered(tree, matches), projection, kept, mapping, figures)


def cluster_mapping(match: Match) -> pa.Table:
    """Return the CLUSTER_MAPPING: unchanged clusters by id, then removed ones, then new ones."""
    same = set(match.old_ids[match.unchanged].tolist())
    changed = [number for number in range(len(match.old_ids)) if number not in same]
    nulls = [None] * len(changed)
    return pa.table(
        [[*sorted(same), *changed, *nulls], [*sorted(same), *nulls, *changed]],
        schema=col.CLUSTER_MAPPING,
    )


def assign(items: pa.Table, tree: ClusterTree) -> pa.Table:
    """Replace the embeddings of items by their clusters, one of each level.

    Raises InputError if the embeddings have other lengths than in the sample.
    """
    return items.drop_columns([col.EMBEDDING]).append_column(
        col.ITEM_CLUSTERS.field(col.CLUSTER_IDS), as_lists(cluster_ids_of(items, tree))
    )


def cluster_ids_of(items: pa.Table, tree: ClusterTree) -> np.ndarray:
    """Return the clusters of items, [items, levels] int32."""
    if not items.num_rows:
        return np.empty((0, len(tree.sizes)), np.int32)
    with as_input_error("the embeddings of the items have different lengths: "):
        return assign_clusters(tree, embeddings_of(items))


def item_features(items: pa.Table, projection: Projection) -> pa.Table:
    """Project the embeddings of items: ITEM_FEATURES.

    Raises InputError if the embeddings have other lengths than in the sample.
    """
    if not items.num_rows:
        return col.ITEM_FEATURES.empty_table()
    rows, dimension = embeddings_of(items), len(projection.mean)
    if rows.shape[1] != dimension:
        raise InputError(
            f"the embeddings of the items have different lengths: {rows.shape[1]} and {dimension}"
        )
    columns = [items[col.ITEM_ID], as_lists(project(projection, rows))]
    return pa.table(columns, schema=col.ITEM_FEATURES)


def quality_tally(clusters: pa.Table, fitted: FittedClusters) -> RowCounts:
    """Log the quality of the clusters of each level, and return it for the manifest."""
    figures: dict[str, Any] = {"balance": []}
    for level, size in enumerate(fitted.tree.sizes):
        traffic = clusters.filter(pc.equal(clusters[col.LEVEL], level))[col.TRAFFIC].to_numpy()
        figures["balance"].append(round(traffic_balance(traffic), 4))
        log.info(
            "build_clusters: level %d: %d clusters, largest / mean traffic %.2f, coherence %.3f, "
            "separation %.3f",
            *(level, size, figures["balance"][-1]),
            *(fitted.figures[name][level] for name in ("coherence", "separation")),
        )
    for name, values in fitted.figures.items():
        figures[name] = [None if np.isnan(value) else value for value in values]
    if fitted.mapping.num_rows:
        figures["unchanged"] = [len(kept) for kept in fitted.kept]
        log.info(
            "build_clusters: clusters unchanged since --previous_workspace, per level: %s",
            figures["unchanged"],
        )
    return RowCounts(figures=figures)
