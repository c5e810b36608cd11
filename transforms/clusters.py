"""Items into clusters: embedding, traffic, the tree, and the clusters' names."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from models.cluster_descriptions import describe_clusters, description
from models.clustering import ClusterTree, assign_clusters, fit_cluster_tree
from models.language_model import load_tokenizer
from models.text_encoder import TextEncoder
from transforms import schemas as col
from transforms.errors import InputError, as_input_error

log = logging.getLogger("interest-explorer")

ITEMS_WITH_TRAFFIC = col.ITEMS.append(pa.field(col.TRAFFIC, pa.float64()))
TREE_SAMPLE = pa.schema(
    {
        col.ITEM_ID: pa.string(),
        col.EMBEDDING: pa.list_(pa.float32()),
        col.TRAFFIC: pa.float64(),
    }
)
TRAFFIC_COUNTS = pa.schema({col.ITEM_ID: pa.string(), col.TRAFFIC: pa.float64()})
_ENCODE_ROWS = 512


def count_traffic(interactions: pa.Table, item_ids: pa.Array) -> pa.Table:
    """Count the interactions of each item of the catalogue that has any; TRAFFIC_COUNTS."""
    counts = np.bincount(interactions[col.ITEM].to_numpy(), minlength=len(item_ids))
    there = np.flatnonzero(counts)
    return pa.table(
        [item_ids.take(pa.array(there)), counts[there].astype(np.float64)], schema=TRAFFIC_COUNTS
    )


def add_traffic(items: pa.Table, counts: pa.Table) -> pa.Table:
    """Give each item the sum of its traffic counts, 0 without any; ITEMS_WITH_TRAFFIC by id."""
    sums = counts.group_by([col.ITEM_ID]).aggregate([(col.TRAFFIC, "sum")])
    at = pc.index_in(items[col.ITEM_ID], value_set=sums[col.ITEM_ID].combine_chunks())
    traffic = pc.fill_null(sums[f"{col.TRAFFIC}_sum"].combine_chunks().take(at), 0.0)
    return items.append_column(ITEMS_WITH_TRAFFIC.field(col.TRAFFIC), traffic).sort_by(col.ITEM_ID)


def item_texts(items: pa.Table) -> list[str]:
    """Return what an item is called and about, as one text each."""
    return [
        " | ".join(part for part in (title, ", ".join(keywords or []), text) if part)
        for title, keywords, text in zip(
            items[col.TITLE].to_pylist(),
            items[col.KEYWORDS].to_pylist(),
            items[col.TEXT].to_pylist(),
            strict=True,
        )
    ]


def embeddings_of(items: pa.Table) -> np.ndarray:
    """Return the embeddings of items [items, dimension] float32.

    Raises
    ------
    InputError
        If they have different lengths.
    """
    column = items[col.EMBEDDING].combine_chunks()
    lengths = pc.value_counts(pc.list_value_length(column)).to_pylist()
    if len(lengths) > 1:
        found = ", ".join(f"{one['values']} ({one['counts']:,} items)" for one in lengths)
        raise InputError(f"the embeddings of the items have different lengths: {found}")
    return pc.list_flatten(column).to_numpy().reshape(len(column), -1)


@dataclass(eq=False)
class EmbedItems(beam.PTransform):
    """(shard, ITEMS_WITH_TRAFFIC) -> the same with an embedding of each item's text."""

    encoder: str

    def expand(
        self, items: beam.PCollection[tuple[int, pa.Table]]
    ) -> beam.PCollection[tuple[int, pa.Table]]:
        from transforms.inference import BatchHandler, RunInference

        name = self.encoder
        handler = BatchHandler(lambda: _load(name), _embed)
        return (
            items
            # Before the encoder, so that a retried bundle gets the same batches.
            | "Spread" >> beam.Reshuffle()
            | "Encode" >> RunInference(handler).with_output_types(tuple[int, pa.Table])
        )


def _load(encoder: str) -> TextEncoder:
    with as_input_error("--text_encoder: "):
        return TextEncoder(encoder)


def _embed(encoder: TextEncoder, sharded: tuple[int, pa.Table]) -> tuple[int, pa.Table]:
    shard, items = sharded
    texts = item_texts(items)
    parts, begun = [np.empty((0, encoder.dimension), np.float32)], time.monotonic()
    for start in range(0, len(texts), _ENCODE_ROWS):
        parts.append(encoder.encode(texts[start : start + _ENCODE_ROWS]))
        done = min(start + _ENCODE_ROWS, len(texts))
        left = (time.monotonic() - begun) / done * (len(texts) - done)
        log.info(
            "build_clusters: part %d: %s of %s items embedded, %.0f s left",
            shard,
            f"{done:,}",
            f"{len(texts):,}",
            left,
        )
    Metrics.counter("build_clusters", "items_embedded").inc(len(texts))
    vectors = np.concatenate(parts)  # [items, dimension]
    at = items.schema.get_field_index(col.EMBEDDING)
    return shard, items.set_column(at, col.ITEMS.field(col.EMBEDDING), _lists(vectors))


def _lists(rows: np.ndarray) -> pa.ListArray:
    """Return an array [rows, width] as a column of lists."""
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))


def fit_tree(sample: pa.Table, sizes: Sequence[int], seed: int) -> ClusterTree:
    """Fit the tree of clusters on TREE_SAMPLE.

    Raises
    ------
    InputError
        If there are too few items for so many clusters.
    """
    if sample.num_rows < max(sizes):
        raise InputError(
            f"--clusters={','.join(map(str, sizes))}: {max(sizes)} clusters need at least as many "
            f"items, and only {sample.num_rows} can be used; ask for fewer clusters"
        )
    with as_input_error(f"--clusters={','.join(map(str, sizes))}: "):
        return fit_cluster_tree(embeddings_of(sample), sample[col.TRAFFIC].to_numpy(), sizes, seed)


def assign(items: pa.Table, tree: ClusterTree) -> pa.Table:
    """Replace the embedding of items by their clusters, one of each level."""
    ids = (
        assign_clusters(tree, embeddings_of(items))
        if items.num_rows
        else np.empty((0, len(tree.sizes)), np.int32)
    )
    return items.drop_columns([col.EMBEDDING]).append_column(
        col.ITEM_CLUSTERS.field(col.CLUSTER_IDS), _lists(ids)
    )


ASSIGNED = pa.schema(
    [field for field in ITEMS_WITH_TRAFFIC if field.name != col.EMBEDDING]
    + [col.ITEM_CLUSTERS.field(col.CLUSTER_IDS)]
)


def first_tokens(tokenizer: Any, keywords: Sequence[str]) -> list[int]:
    """Return the first token of a completion that begins with a keyword, for each keyword.

    As in a description after the newline that ends a prompt: with a comma behind it.
    """
    newline, *ids = tokenizer(
        ["\n", *(f"\n{keyword}," for keyword in keywords)], add_special_tokens=False
    )["input_ids"]
    return [row[len(newline)] for row in ids]


def cluster_table(
    assigned: pa.Table, tree: ClusterTree, keyword_count: int, base_model: str
) -> pa.Table:
    """Name and measure the clusters of every level.

    Parameters
    ----------
    assigned
        All items as `assign` leaves them.
    base_model
        The language model that will read the names: no two begin with the same token of it, as far
        as keywords reach.

    Returns
    -------
    CLUSTERS, sorted by level and id.

    Raises
    ------
    InputError
        If the base model has no tokenizer that can be loaded.
    """
    with as_input_error("--base_model: "):
        tokenizer = load_tokenizer(base_model)
    tokens_of = partial(first_tokens, tokenizer)
    ids = pc.list_flatten(assigned[col.CLUSTER_IDS]).to_numpy().reshape(assigned.num_rows, -1)
    traffic = assigned[col.TRAFFIC].to_numpy()
    keywords = [words or [] for words in assigned[col.KEYWORDS].to_pylist()]
    texts = [
        " ".join(part for part in parts if part)
        for parts in zip(
            assigned[col.TITLE].to_pylist(), assigned[col.TEXT].to_pylist(), strict=True
        )
    ]
    levels = []
    for level, size in enumerate(tree.sizes):
        cluster = ids[:, level]
        names = describe_clusters(cluster, size, keywords, texts, traffic, tokens_of, keyword_count)
        parents = [None] * size if level == 0 else tree.parents[level].tolist()
        levels.append(
            pa.table(
                [
                    pa.array(np.full(size, level, np.int32)),
                    pa.array(np.arange(size, dtype=np.int32)),
                    pa.array(parents, pa.int32()),
                    pa.array([description(words) for words in names], pa.string()),
                    pa.array(names, pa.list_(pa.string())),
                    pa.array(np.bincount(cluster, minlength=size), pa.int64()),
                    pa.array(np.bincount(cluster, traffic, size), pa.float64()),
                ],
                schema=col.CLUSTERS,
            )
        )
    return pa.concat_tables(levels).combine_chunks()


def log_traffic_balance(clusters: pa.Table) -> pa.Table:
    """Say how equal the traffic of the clusters of each level is; returns the table."""
    for level in pc.unique(clusters[col.LEVEL]).to_pylist():
        traffic = clusters.filter(pc.equal(clusters[col.LEVEL], level))[col.TRAFFIC].to_numpy()
        balance = traffic.max() / traffic.mean() if traffic.any() else 1.0
        log.info(
            "build_clusters: level %d: %d clusters, largest / mean traffic %.2f",
            level,
            len(traffic),
            balance,
        )
    return clusters
