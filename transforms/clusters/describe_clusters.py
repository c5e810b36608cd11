"""Describes the clusters of every level, and lists them with their items and traffic."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.clustering.cluster_tree import ClusterTree
from models.clustering.naming.cluster_descriptions import describe_clusters, description
from models.language.language_model import load_tokenizer
from transforms import schemas as col
from transforms.clusters.fit_clusters import FittedClusters, cluster_ids_of
from transforms.clusters.fit_sample import TIMES
from transforms.errors import as_input_error


def first_tokens(tokenizer: Any, keywords: Sequence[str]) -> list[int]:
    """Return the first token of a completion that begins with each keyword.

    In a description, the keyword follows the newline of the prompt and a comma follows the keyword.
    """
    newline, *ids = tokenizer(
        ["\n", *(f"\n{keyword}," for keyword in keywords)], add_special_tokens=False
    )["input_ids"]
    return [row[len(newline)] for row in ids]


def cluster_keywords(
    sample: pa.Table, fitted: FittedClusters, keyword_count: int, base_model: str
) -> list[list[list[str]]]:
    """Return the keywords of each cluster, at most `keyword_count`, per level.

    `sample` is the TREE_SAMPLE of the fit. As far as keywords suffice, no two descriptions of a
    level begin with the same token of the base model. Raises InputError if its tokenizer cannot be
    loaded.
    """
    with as_input_error("--base_model: "):
        tokenizer = load_tokenizer(base_model)
    tokens_of = functools.partial(first_tokens, tokenizer)
    ids = cluster_ids_of(sample, fitted.tree)
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
        for level, (size, kept) in enumerate(zip(fitted.tree.sizes, fitted.kept, strict=True))
    ]


def count_finest(assigned: pa.Table, sizes: Sequence[int]) -> np.ndarray:
    """Count items and traffic of each cluster of the finest level: [2, finest] float64."""
    lists = assigned[col.CLUSTER_IDS].combine_chunks()
    cluster = pc.list_element(lists, len(sizes) - 1).to_numpy()
    traffic = assigned[col.TRAFFIC].to_numpy()
    return np.stack(
        [np.bincount(cluster, weights, sizes[-1]) for weights in (np.ones(len(cluster)), traffic)]
    )


def cluster_table(
    keywords: Sequence[list[list[str]]], tree: ClusterTree, counts: Iterable[np.ndarray]
) -> pa.Table:
    """List the clusters of every level: CLUSTERS sorted by level and id.

    `keywords` are those of `cluster_keywords`, `counts` the `count_finest` of all parts of the
    items.
    """
    item_counts, traffic = np.sum(list(counts), axis=0)
    levels = []
    for level, (size, ancestors) in enumerate(zip(tree.sizes, tree.ancestors, strict=True)):
        columns = [
            np.full(size, level, np.int32),
            np.arange(size, dtype=np.int32),
            pa.nulls(size, pa.int32()) if level == 0 else tree.parents[level],
            [description(words) for words in keywords[level]],
            keywords[level],
            np.bincount(ancestors, item_counts, size).astype(np.int64),
            np.bincount(ancestors, traffic, size),
        ]
        levels.append(pa.table(columns, schema=col.CLUSTERS))
    return pa.concat_tables(levels).combine_chunks()
