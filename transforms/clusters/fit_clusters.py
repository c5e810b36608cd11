"""Items into clusters: the tree, what it makes of the items, and the clusters' names."""

import functools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.clustering.cluster_matching import Match, match_clusters, renumbered
from models.clustering.cluster_quality import coherence, separation
from models.clustering.cluster_tree import ClusterTree, assign_clusters, traffic_balance
from models.clustering.fit_cluster_tree import fit_cluster_tree
from models.clustering.naming.cluster_descriptions import describe_clusters, description
from models.language.language_model import load_tokenizer
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
    """A tree of clusters, what of an earlier one it kept, and how good it is.

    Attributes
    ----------
    tree
        Its clusters have the ids of the earlier ones that they are most like.
    projection
        From embeddings to the features of items.
    names
        Per level, the keywords of clusters that did not change since the earlier run.
    mapping
        CLUSTER_MAPPING; no rows without an earlier run.
    figures
        Of the manifest; measured on the sample, with items counted by traffic.
    """

    tree: ClusterTree
    projection: Projection
    names: tuple[dict[int, list[str]], ...]
    mapping: pa.Table
    figures: dict[str, Any]


def fit_tree(sample: pa.Table, sizes: Sequence[int], previous: str | None) -> FittedClusters:
    """Fit the tree of clusters, and the projection that gives items their features.

    Parameters
    ----------
    sample
        TREE_SAMPLE, sorted by id.
    sizes
        Numbers of clusters, coarse to fine.
    previous
        Folder of the clusters of an earlier run to begin with.

    Raises
    ------
    InputError
        If there are too few items for so many clusters, or none that the earlier run knows.
    """
    if sample.num_rows < max(sizes):
        raise InputError(
            f"--clusters={','.join(map(str, sizes))}: {max(sizes)} clusters need at least as many "
            f"items, and only {sample.num_rows} can be used; ask for fewer clusters"
        )
    rows, traffic = embeddings_of(sample), sample[col.TRAFFIC].to_numpy()
    times = sample[TIMES].to_numpy()
    earlier = None if previous is None else read_previous(previous, sample[col.ITEM_ID])
    start = None if earlier is None else (earlier.cluster_ids[:, -1], earlier.parents)
    with as_input_error(f"--clusters={','.join(map(str, sizes))}: "):
        tree = fit_cluster_tree(rows, traffic, sizes, times, start)
    projection = fit_projection(rows, times)
    cluster_ids = assign_clusters(tree, rows)
    weights = times * traffic if traffic.any() else times
    figures = {
        "coherence": [round(coherence(rows, of, weights), 4) for of in cluster_ids.T],
        "separation": [round(separation(rows, of, weights), 4) for of in cluster_ids.T],
    }
    if earlier is None:
        none: tuple[dict[int, list[str]], ...] = tuple({} for _ in sizes)
        return FittedClusters(tree, projection, none, col.CLUSTER_MAPPING.empty_table(), figures)
    known = earlier.cluster_ids[:, 0] >= 0
    matches = [
        match_clusters(old[known], new[known], count)
        for old, new, count in zip(earlier.cluster_ids.T, cluster_ids.T, sizes, strict=True)
    ]
    names = tuple(
        {int(at): of_level[at] for at in match.old_ids[match.unchanged]}
        for of_level, match in zip(earlier.keywords, matches, strict=True)
    )
    mapping = cluster_mapping(matches[-1])
    return FittedClusters(renumbered(tree, matches), projection, names, mapping, figures)


def cluster_mapping(match: Match) -> pa.Table:
    """List what became of each cluster: CLUSTER_MAPPING by id, those that are gone before new."""
    same = set(match.old_ids[match.unchanged].tolist())
    changed = [number for number in range(len(match.old_ids)) if number not in same]
    nulls = [None] * len(changed)
    return pa.table(
        [[*sorted(same), *changed, *nulls], [*sorted(same), *nulls, *changed]],
        schema=col.CLUSTER_MAPPING,
    )


def assign(items: pa.Table, tree: ClusterTree) -> pa.Table:
    """Replace the embedding of items by their clusters, one of each level.

    Raises
    ------
    InputError
        If their embeddings have other lengths than those that the tree was fitted on.
    """
    return items.drop_columns([col.EMBEDDING]).append_column(
        col.ITEM_CLUSTERS.field(col.CLUSTER_IDS), as_lists(_cluster_ids(items, tree))
    )


def _cluster_ids(items: pa.Table, tree: ClusterTree) -> np.ndarray:
    """Return the clusters of items, [items, levels] int32."""
    if not items.num_rows:
        return np.empty((0, len(tree.sizes)), np.int32)
    with as_input_error("the embeddings of the items have different lengths: "):
        return assign_clusters(tree, embeddings_of(items))


def item_features(items: pa.Table, projection: Projection) -> pa.Table:
    """Project the embeddings of items: ITEM_FEATURES.

    Raises
    ------
    InputError
        If their embeddings have other lengths than those of the sample.
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


def count_finest(assigned: pa.Table, sizes: Sequence[int]) -> np.ndarray:
    """Count what each cluster of the finest level has: [2, finest] float64, items and traffic."""
    lists = assigned[col.CLUSTER_IDS].combine_chunks()
    cluster = pc.list_element(lists, len(sizes) - 1).to_numpy()
    traffic = assigned[col.TRAFFIC].to_numpy()
    return np.stack(
        [np.bincount(cluster, weights, sizes[-1]) for weights in (np.ones(len(cluster)), traffic)]
    )


def first_tokens(tokenizer: Any, keywords: Sequence[str]) -> list[int]:
    """Return the first token of a completion that begins with a keyword, for each keyword.

    As in a description after the newline that ends a prompt: with a comma behind it.
    """
    newline, *ids = tokenizer(
        ["\n", *(f"\n{keyword}," for keyword in keywords)], add_special_tokens=False
    )["input_ids"]
    return [row[len(newline)] for row in ids]


def name_clusters(
    sample: pa.Table, fitted: FittedClusters, keyword_count: int, base_model: str
) -> list[list[list[str]]]:
    """Name the clusters of every level.

    Parameters
    ----------
    sample
        TREE_SAMPLE that they were fitted on.
    fitted
        The clusters; those that have a name already keep it.
    keyword_count
        Keywords per cluster, at most.
    base_model
        The language model that will read the names: no two begin with the same token of it, as far
        as keywords reach.

    Returns
    -------
    Per level, the keywords of each cluster.

    Raises
    ------
    InputError
        If the base model has no tokenizer that can be loaded.
    """
    with as_input_error("--base_model: "):
        tokenizer = load_tokenizer(base_model)
    tokens_of = functools.partial(first_tokens, tokenizer)
    ids = _cluster_ids(sample, fitted.tree)
    traffic = sample[TIMES].to_numpy() * sample[col.TRAFFIC].to_numpy()
    keywords = [words or [] for words in sample[col.KEYWORDS].to_pylist()]
    texts = [
        " ".join(part for part in parts if part)
        for parts in zip(sample[col.TITLE].to_pylist(), sample[col.TEXT].to_pylist(), strict=True)
    ]
    return [
        describe_clusters(
            ids[:, level], size, keywords, texts, traffic, tokens_of, keyword_count, kept
        )
        for level, (size, kept) in enumerate(zip(fitted.tree.sizes, fitted.names, strict=True))
    ]


def cluster_table(
    names: Sequence[list[list[str]]], tree: ClusterTree, counts: Iterable[np.ndarray]
) -> pa.Table:
    """List the clusters of every level.

    Parameters
    ----------
    names
        Per level, the keywords of each cluster.
    tree
        The clusters.
    counts
        `count_finest` of all parts of the items.

    Returns
    -------
    CLUSTERS, sorted by level and id.
    """
    item_counts, traffic = np.sum(list(counts), axis=0)
    levels = []
    for level, (size, ancestors) in enumerate(zip(tree.sizes, tree.ancestors, strict=True)):
        parents = [None] * size if level == 0 else tree.parents[level].tolist()
        levels.append(
            pa.table(
                [
                    pa.array(np.full(size, level, np.int32)),
                    pa.array(np.arange(size, dtype=np.int32)),
                    pa.array(parents, pa.int32()),
                    pa.array([description(words) for words in names[level]], pa.string()),
                    pa.array(names[level], pa.list_(pa.string())),
                    pa.array(np.bincount(ancestors, item_counts, size).astype(np.int64)),
                    pa.array(np.bincount(ancestors, traffic, size)),
                ],
                schema=col.CLUSTERS,
            )
        )
    return pa.concat_tables(levels).combine_chunks()


def quality_tally(clusters: pa.Table, fitted: FittedClusters) -> RowCounts:
    """Say how good the clusters of each level are, and return it for the manifest."""
    balances = []
    for level, size in enumerate(fitted.tree.sizes):
        traffic = clusters.filter(pc.equal(clusters[col.LEVEL], level))[col.TRAFFIC].to_numpy()
        balances.append(round(traffic_balance(traffic), 4))
        log.info(
            "build_clusters: level %d: %d clusters, largest / mean traffic %.2f, coherence %.3f, "
            "separation %.3f",
            level,
            size,
            balances[-1],
            fitted.figures["coherence"][level],
            fitted.figures["separation"][level],
        )
    figures: dict[str, Any] = {"balance": balances}
    for name, values in fitted.figures.items():
        figures[name] = [None if np.isnan(value) else value for value in values]
    if fitted.mapping.num_rows:
        figures["unchanged"] = [len(names) for names in fitted.names]
        log.info(
            "build_clusters: clusters unchanged since --previous_workspace, per level: %s",
            figures["unchanged"],
        )
    return RowCounts(figures=figures)
